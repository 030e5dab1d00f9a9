"""The benchmarks run, on little data; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_reading():
    size = ["--users", "300", "--items", "200", "--ratings", "10000", "--layout", "1m"]
    command = [sys.executable, str(BENCHMARKS / "reading.py"), *size]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    first, *rows = ended.stdout.splitlines()
    assert first.startswith("10,000 ratings, ")
    assert [row[:15].rstrip() for row in rows] == ["imports alone", "numbers alone", "from text", "from the copy"]
    assert all("RatingMatrix(300 users × " in row for row in rows[2:])

"""The benchmarks run, on little data; what they measure is for people to read."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"
SIZE = ["--users", "300", "--items", "200", "--ratings", "10000"]


def printed(benchmark: str, *options: str) -> list[str]:
    command = [sys.executable, str(BENCHMARKS / benchmark), *SIZE, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_reading():
    first, *rows = printed("reading.py", "--layout", "1m")
    assert first.startswith("10,000 ratings, ")
    assert [row[:15].rstrip() for row in rows] == ["imports alone", "numbers alone", "from text", "from the copy"]
    assert all("RatingMatrix(300 users × " in row for row in rows[2:])


def test_training():
    first, *rows = printed("training.py")
    assert first == "the whole: 300 users × 200 items, 10,000 ratings"
    assert [row.split(",")[0].split(" of")[0].strip() for row in rows] == ["epoch", "epoch", "epoch", "top 10"]
    assert all(" s   peak " in row for row in rows)

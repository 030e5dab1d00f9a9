"""The benchmarks run, on little data; what they measure is for people to read."""

import runpy
from pathlib import Path

from saerec.synthetic import iter_ratings, make_ratings, write_movielens

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_reading(tmp_path, capsys):
    benchmark = runpy.run_path(str(BENCHMARKS / "reading.py"))
    write_movielens(iter_ratings(300, 200, 10_000, seed=0, step=1.0), "1m", tmp_path)
    for row in benchmark["ROWS"]:
        benchmark["measure"](row, tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert [row[:15].rstrip() for row in printed] == list(benchmark["ROWS"])
    assert all("RatingMatrix(300 users × " in row for row in printed[2:])


def test_training(capsys):
    benchmark = runpy.run_path(str(BENCHMARKS / "training.py"))
    ratings = make_ratings(300, 600, 10_000, seed=0)
    for row in benchmark["ROWS"]:
        benchmark["measure"](row, ratings)
    assert [row[2:54].rstrip() for row in capsys.readouterr().out.splitlines()] == list(benchmark["ROWS"])

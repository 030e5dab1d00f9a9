"""The benchmarks run, on little data; what they measure is for people to read."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

import saerec
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


def test_growth(tmp_path, monkeypatch):
    benchmark = runpy.run_path(str(BENCHMARKS / "growth.py"))
    rows = []
    for n_users, n_ratings in ((300, 6_000), (600, 12_000), (900, 24_000)):
        made = benchmark["make"](n_users, 2_000, n_ratings, tmp_path)
        matrix = saerec.RatingMatrix.open(tmp_path)
        assert matrix.csr.has_canonical_format and matrix.shape == (n_users, 2_000)
        assert 0.8 * n_ratings < matrix.n_ratings == made["ratings"] <= 1.1 * n_ratings
        rows.append({"sweep": "ratings"} | made | benchmark["measure"](tmp_path))
    table = pd.DataFrame(rows)
    powers = benchmark["exponents"](table.assign(seconds=table["ratings"] ** 0.5))
    assert powers.loc["ratings", "seconds"] == pytest.approx(0.5)
    steps = 2 * 2_000 * benchmark["UNITS"]
    assert benchmark["costs"](table.assign(seconds=3 * table["ratings"] + 7 * steps)) == pytest.approx((3, 7))
    benchmark["draw"](table).savefig(tmp_path / "growth.png")


def test_training(capsys):
    benchmark = runpy.run_path(str(BENCHMARKS / "training.py"))
    ratings = make_ratings(300, 600, 10_000, seed=0)
    for row in benchmark["ROWS"]:
        benchmark["measure"](row, ratings)
    assert [row[2:54].rstrip() for row in capsys.readouterr().out.splitlines()] == list(benchmark["ROWS"])

"""The benchmarks run, on little data; what they measure is for people to read."""

import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch

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


def test_training(tmp_path):
    benchmark = runpy.run_path(str(BENCHMARKS / "training.py"))
    ratings = make_ratings(300, 600, 10_000, seed=0)
    table = pd.DataFrame([benchmark["measure"](row, ratings) for row in benchmark["ROWS"]])
    of_differences = table["what"].str.startswith(("steps alone", "epoch of the choice model"))  # of times; may be < 0
    assert table["what"].tolist() == list(benchmark["ROWS"]) and (table["seconds"][~of_differences] > 0).all()
    table["seconds"] = table["seconds"].where(~of_differences, table["seconds"].abs())
    lines = [benchmark["told"](row) for row in table.to_dict("records")]
    for line, name in zip(lines, benchmark["ROWS"]):
        assert line.startswith(f"  {name}") and (" of peak" in line) == ("steps alone" in name)
    (first, *_), pairs = benchmark["ratios"](table), benchmark["RATIOS"]
    expected = table["seconds"].iloc[0] / table["seconds"].iloc[1]
    assert float(first.split()[0]) == pytest.approx(expected, abs=0.06) and len(benchmark["ratios"](table)) == len(
        pairs
    )
    assert len(benchmark["ratios"](table.head(2))) == 1
    benchmark["draw"](table).savefig(tmp_path / "training.png")


@pytest.mark.filterwarnings("ignore:this recommender has no drift")
def test_tried(parts, capsys):
    benchmark = runpy.run_path(str(BENCHMARKS / "tried.py"))
    train, valid, _ = parts
    features = pd.DataFrame({"long": 1.0}, index=pd.Index(train["item_id"].unique(), name="item_id"))
    rows = {name: change | {"n_epochs": 1} for name, change in benchmark["ROWS"].items()}
    benchmark["tabulate"](train, valid, features, rows, n_seeds=2)
    _, _, _, _, first, *others = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0].lstrip("| ") for row in (first, *others)] == list(rows)
    lowest, highest = (float(number) for number in first.split(" | ")[2].split(" – "))
    assert lowest <= float(first.split(" | ")[1]) <= highest and "| +0.0000 |" in first
    assert len({row.split(" | ")[1] for row in others}) > 10


def test_variants(parts, capsys):
    benchmark = runpy.run_path(str(BENCHMARKS / "variants.py"))
    train, valid, _ = parts
    features = pd.DataFrame({"long": 1.0}, index=pd.Index(train["item_id"].unique(), name="item_id"))
    variants = list(benchmark["VARIANTS"])
    benchmark["tabulate"](benchmark["prepared"](train, valid, features), variants[1:], n_seeds=1, n_epochs=2)
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0].lstrip("| ") for row in rows] == variants  # the default is always there
    kept = benchmark["LocalKernel"](50, 60)(torch.ones(50, 60))
    assert 0.4 < kept.mean() < 0.8 and kept.std() > 0.1  # there is something for the kernel to do
    assert all(0.5 < float(row.split(" | ")[1]) < 1.5 for row in rows)


def test_new_people(parts):
    benchmark = runpy.run_path(str(BENCHMARKS / "new_people.py"))
    train, valid, test = parts
    features = pd.DataFrame({"long": 1.0}, index=pd.Index(train["item_id"].unique(), name="item_id"))
    errors = benchmark["compare"](train, valid, test, features, 3, n_epochs=5, lr=0.003)
    assert list(errors.index) == ["biases", "item", "user", "both", "mean"] and errors.notna().all(axis=None)
    assert (errors["new"] > 0.9 * errors["trained with"]).all()
    lead = errors.loc["biases", "new"] - errors["new"]
    assert (errors["least lead"] < lead).drop("biases").all() and (lead < errors["most lead"]).drop("biases").all()
    known = saerec.RatingMatrix.from_frame(pd.concat([train, valid]))
    kept = test[(known.positions(test["user_id"], test["item_id"])[0] >= 0) & test["item_id"].isin(known.item_ids)]
    kept = kept[kept["user_id"].isin(train["user_id"])]
    matrix = saerec.RatingMatrix.from_frame(train)
    predicted = saerec.BiasBaseline().fit(matrix).predict(*matrix.positions(kept["user_id"], kept["item_id"]))
    expected = saerec.rmse(kept["rating"], predicted.clip(*matrix.scale))
    assert errors.loc["biases", "trained with"] == pytest.approx(expected, abs=1e-6)

"""The record of a run tells what it was made of; `verify` tells whether it still holds."""

import json

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec.__main__ import main
from saerec.files import sha256_of
from saerec.record import difference, fingerprint, read_record, surroundings, verify, write_record


def with_titles(ratings):
    return saerec.Dataset(ratings, pd.DataFrame({"item_id": [10], "title": ["A"]}))


@pytest.fixture
def folder(tmp_path, parts, tastes):
    """A finished run, small."""
    train, valid, test = parts
    rec = saerec.Recommender(hidden_dims=(4,), n_epochs=2, rank_by="rating").fit(train, valid)
    rec.save(tmp_path / "model")
    test.to_parquet(tmp_path / "test.parquet")
    pd.DataFrame([rec.evaluate(test)], index=pd.Index(["saerec"], name="model")).to_csv(tmp_path / "scores.csv")
    files = ("model", "scores.csv", "test.parquet")
    record = {
        "parameters": {"dataset": "tastes", "user": "who", "seed": 3},
        "data": fingerprint(with_titles(tastes)),
        "notebooks": {"03_best_epoch": {"writes": {name: sha256_of(tmp_path / name) for name in files}}},
        **surroundings(),
    }
    write_record(tmp_path, record)
    return tmp_path


def check(folder, tastes):
    """The checks by name; what was loaded, and how."""
    asked = {}

    def load(dataset, **own):
        asked.update(dataset=dataset, **own)
        return with_titles(tastes)

    return verify(folder, load, {"user", "item"}).set_index("check"), asked


def test_a_run_that_holds(folder, tastes):
    checks, asked = check(folder, tastes)
    assert checks["holds"].all()
    assert checks.loc["03_best_epoch", "found"] == "3 files as they were written"
    assert checks.loc["data", "found"] == f"{len(tastes):,} ratings and their titles, the same as then"
    assert checks.loc["model", "found"].endswith(", as in scores.csv")
    assert asked == {"dataset": "tastes", "user": "who"}


def lower_a_score(folder):
    scores = pd.read_csv(folder / "scores.csv")
    scores["rmse"] -= 1e-3
    scores.to_csv(folder / "scores.csv", index=False)


@pytest.mark.parametrize(
    ("spoil", "failing", "found"),
    [
        (lambda folder: (folder / "test.parquet").unlink(), ["03_best_epoch", "model"], "test.parquet is missing"),
        (lower_a_score, ["03_best_epoch", "model"], "scores.csv was changed"),
        (lambda folder: (folder / "model" / "more").touch(), ["03_best_epoch"], "model was changed"),
    ],
)
def test_what_was_changed_is_named(folder, tastes, spoil, failing, found):
    spoil(folder)
    checks, _ = check(folder, tastes)
    assert checks.index[~checks["holds"]].tolist() == failing
    assert checks.loc["03_best_epoch", "found"] == found


def test_a_score_that_the_model_does_not_have(folder, tastes):
    lower_a_score(folder)
    assert "; in scores.csv: rmse" in check(folder, tastes)[0].loc["model", "found"]


@pytest.mark.parametrize(
    "change",
    [
        lambda tastes: tastes.iloc[1:],
        lambda tastes: tastes.iloc[::-1],
        lambda tastes: tastes.assign(rating=tastes["rating"].where(np.arange(len(tastes)) > 0, 5.0)),
        lambda tastes: tastes.rename(columns={"timestamp": "time"}),
    ],
)
def test_other_data(folder, tastes, change):
    checks, _ = check(folder, change(tastes))
    assert checks.index[~checks["holds"]].tolist() == ["data"] and checks.loc["data", "found"].endswith("not the same")


def test_other_titles(folder, tastes):
    titles = pd.DataFrame({"item_id": [10], "title": ["B"]})
    checks = verify(folder, lambda *_, **__: saerec.Dataset(tastes, titles), set()).set_index("check")
    assert not checks.loc["data", "holds"]


def test_what_was_not_finished_and_what_is_not_there(folder, tastes):
    record = read_record(folder)
    record["notebooks"]["04_user_report"] = {"inputs": {}}
    write_record(folder, record)

    def load(dataset, **own):
        raise FileNotFoundError("no data set 'tastes'")

    checks = verify(folder, load, set()).set_index("check")
    assert checks.index[~checks["holds"]].tolist() == ["04_user_report", "data"]
    assert checks.loc["data", "found"] == "no data set 'tastes'"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parameters": {"dataset": 5}}', '{"parameters": 3}'])
def test_a_damaged_record_says_so(tmp_path, text, capsys):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is damaged: .*; saerec run --restart makes the run anew"):
        read_record(tmp_path)
    assert main(["verify", str(tmp_path)]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_the_command_says_what_holds(folder, tastes, capsys, monkeypatch):
    monkeypatch.setattr(saerec.series, "load_dataset", lambda dataset, **own: with_titles(tastes))
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.count("holds  ") == 3
    lower_a_score(folder)
    assert main(["verify", str(folder)]) == 1
    assert "FAILS  03_best_epoch: scores.csv was changed\n" in capsys.readouterr().out


def test_the_surroundings_are_named():
    found = surroundings()
    assert found["versions"]["numpy"] == np.__version__ and found["machine"]["cores"] >= 1
    assert json.loads(json.dumps(found)) == found
    assert found["commit"] is None or len(found["commit"].rstrip("+")) == 40


def test_the_first_difference_is_told():
    inputs = {"parameters": {"n": 1}, "data": "d", "notebook": "n", "code": "c", "reads": {"a.csv": "1"}}
    assert difference(inputs, inputs) is None
    assert difference(inputs, inputs | {"parameters": {"n": 2}, "code": "other"}) == "n was 1, is 2"
    assert difference(inputs, inputs | {"reads": {}}) == "a.csv is another"
    assert difference(inputs, inputs | {"code": "other"}) == "saerec's code is another"

"""The record of a run tells what it was made of; `verify` tells whether it still holds."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec.__main__ import main
from saerec.record import (
    checksums,
    difference,
    fingerprint,
    read_record,
    scores_of,
    surroundings,
    verify,
    write_record,
)

OF_IT = ("scores.csv", "test.parquet", "told_when.csv")
NOTHING = {"parameters": {}, "reads": {}, "data": None, "notebook": "", "code": ""}


def with_titles(ratings):
    return saerec.Dataset(ratings, pd.DataFrame({"item_id": [10], "title": ["A"]}))


@pytest.fixture
def folder(tmp_path, parts, tastes):
    """A finished run, small."""
    train, valid, test = parts
    settings = {"orientation": "item", "hidden_dims": (4,), "n_epochs": 2, "rank_by": "rating"}
    rec = saerec.Recommender(**settings).fit(train, valid)
    rec.save(tmp_path / "model")
    test.to_parquet(tmp_path / "test.parquet")
    scores_of(rec, test, rec.predict(test["user_id"], test["item_id"])).to_csv(tmp_path / "scores.csv")
    rec.refit_on(pd.concat([train, valid]), checkpoint_dir=tmp_path / "refit")
    files = ("model", "scores.csv", "test.parquet")
    record = {
        "parameters": {"dataset": "tastes", "user": "who", "seed": 3},
        "data": fingerprint(with_titles(tastes)),
        "notebooks": {"03_best_epoch": {"inputs": NOTHING, "writes": checksums(tmp_path, files), "folders": ["refit"]}},
        "results": pd.read_csv(tmp_path / "scores.csv").to_dict("records"),
        "pages": {},
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


def failing(checks):
    return checks.index[~checks["holds"].fillna(True)].tolist()


def test_a_run_that_holds(folder, tastes):
    checks, asked = check(folder, tastes)
    assert checks["holds"].all() and list(checks.index) == ["03_best_epoch", "pages", "data", "model", "record"]
    assert checks.loc["record", "found"] == "as it was written, its results those of scores.csv"
    assert checks.loc["03_best_epoch", "found"] == "3 files as they were written"
    assert checks.loc["data", "found"] == f"{len(tastes):,} ratings and their titles, the same as then"
    assert checks.loc["model", "found"].endswith(", as in scores.csv")
    assert asked == {"dataset": "tastes", "user": "who"}


def lower_a_score(folder, model="saerec"):
    scores = pd.read_csv(folder / "scores.csv", index_col="model")
    scores.loc[model, "rmse"] -= 1e-3
    scores.to_csv(folder / "scores.csv")


def as_if_written(folder, **changes):
    """Whoever forges a table may know how to make its checksum."""
    record = read_record(folder) | changes
    record["notebooks"]["03_best_epoch"]["writes"] = checksums(folder, ["model", *OF_IT])
    write_record(folder, record)


@pytest.mark.parametrize("model", ["saerec", "global mean", "regularised biases"])
def test_a_score_that_is_not_computed_again_does_not_hold(folder, tastes, model):
    lower_a_score(folder, model)
    as_if_written(folder, results=pd.read_csv(folder / "scores.csv").to_dict("records"))
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["model"] and f"of {model}" in checks.loc["model", "found"]


def test_a_score_of_what_nobody_knows_does_not_hold(folder, tastes):
    scores = pd.read_csv(folder / "scores.csv")
    pd.concat([scores, scores.assign(model="a rival", rmse=0.1).head(1)]).to_csv(folder / "scores.csv", index=False)
    as_if_written(folder, results=pd.read_csv(folder / "scores.csv").to_dict("records"))
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["model"] and "scores.csv tells of a rival" in checks.loc["model", "found"]


def test_scores_of_who_is_told_when_are_computed_again(folder, tastes, parts):
    train, valid, test = parts
    settings = {"hidden_dims": (4,), "n_epochs": 2, "rank_by": "rating"}
    for seed in range(20):  # ratings of which the drift says something
        steps = np.random.default_rng(seed).normal(0, 1, 1000).cumsum()
        train, valid, test = (
            part.assign(rating=(part["rating"] + steps[part["timestamp"]] / 4).clip(0, 6)) for part in parts
        )
        rec = saerec.Recommender(**settings).fit(train, valid)
        if rec.drift:
            break
    rec.save(folder / "model")
    test.to_parquet(folder / "test.parquet")
    scores_of(rec, test, rec.predict(test["user_id"], test["item_id"])).to_csv(folder / "scores.csv")
    told = pd.DataFrame([rec.evaluate(test, told_when=True)], index=pd.Index(["saerec, told when"], name="model"))
    for lower, expected in ((0, []), (1e-3, ["model"])):
        (told - lower).to_csv(folder / "told_when.csv")
        as_if_written(folder, results=pd.read_csv(folder / "scores.csv").to_dict("records"))
        checks, _ = check(folder, tastes)
        assert failing(checks) == expected
    assert "; in told_when.csv: rmse" in checks.loc["model", "found"]


@pytest.mark.parametrize(
    "change",
    [
        {"results": [{"model": "saerec", "rmse": 0.1}]},
        {"parameters": {"dataset": "tastes", "user": "who", "seed": 4}},
        {"commit": "0" * 40},
        {"versions": {"torch": "1.0"}},
    ],
)
def test_a_record_that_was_edited_does_not_hold(folder, tastes, change):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | change))
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["record"] and checks.loc["record", "found"] == "it was edited since saerec wrote it"
    if "results" in change:
        write_record(folder, record | change)
        assert check(folder, tastes)[0].loc["record", "found"] == "its results are not those of scores.csv"


def test_a_record_of_before_has_no_checksum(folder, tastes):
    record = json.loads((folder / "run.json").read_text())
    del record["sha256"], record["results"], record["notebooks"]["03_best_epoch"]["folders"]
    (folder / "run.json").write_text(json.dumps(record))
    checks, _ = check(folder, tastes)
    assert checks["holds"].all() and checks.loc["record", "found"] == "of an earlier saerec, without a checksum"


@pytest.mark.parametrize("kind", ["epoch", "state"])
def test_every_checkpoint_that_is_there_is_looked_at(folder, tastes, kind):
    (*_, path) = sorted((folder / "refit").glob(f"{kind}_*"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["03_best_epoch"] and f"{path} is damaged" in checks.loc["03_best_epoch", "found"]


def test_the_folder_of_checkpoints_itself_must_be_there(folder, tastes):
    for path in (folder / "refit").glob("epoch_*"):  # as keep may do
        path.unlink()
    assert not failing(check(folder, tastes)[0])
    shutil.rmtree(folder / "refit")
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["03_best_epoch"] and checks.loc["03_best_epoch", "found"] == "refit holds no checkpoint"


@pytest.mark.parametrize(
    ("spoil", "expected", "found"),
    [
        (lambda folder: (folder / "test.parquet").unlink(), ["03_best_epoch", "model"], "test.parquet is missing"),
        (lower_a_score, ["03_best_epoch", "model", "record"], "scores.csv was changed"),
        (lambda folder: (folder / "model" / "more").touch(), ["03_best_epoch"], "model was changed"),
    ],
)
def test_what_was_changed_is_named(folder, tastes, spoil, expected, found):
    spoil(folder)
    checks, _ = check(folder, tastes)
    assert failing(checks) == expected
    assert checks.loc["03_best_epoch", "found"] == found


def test_a_score_that_the_model_does_not_have(folder, tastes):
    lower_a_score(folder)
    assert "; in scores.csv: rmse" in check(folder, tastes)[0].loc["model", "found"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model,rmse,user_rmse,mae\nsaerec,abc,1,1\n", "; in scores.csv: rmse nan"),
        ("model\nsaerec\n", "; in scores.csv: rmse nan"),
        ("model,rmse,user_rmse,mae\nother,1,1,1\n", "; in scores.csv: rmse nan"),
        ("model,rmse,user_rmse,mae\nsaerec,1,1,1\nsaerec,1,1,1\n", "duplicate"),
        ("rmse\n1\n", "model"),
    ],
)
def test_scores_that_are_none_do_not_hold(folder, tastes, text, found):
    (folder / "scores.csv").write_text(text)
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["03_best_epoch", "model", "record"] and found in checks.loc["model", "found"]


def test_a_parameter_of_another_type_does_not_hold(folder, tastes, capsys):
    tastes.to_csv(folder / "shop.csv", index=False)
    parameters = {"dataset": str(folder / "shop.csv"), "separator": 5}
    write_record(folder, read_record(folder) | {"parameters": parameters})
    assert main(["verify", str(folder)]) == 1
    found = "FAILS  data: the parameter separator is of type str, like '', not 5\n"
    assert found in capsys.readouterr().out


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
    assert failing(checks) == ["data"] and checks.loc["data", "found"].endswith("not the same")


def test_other_titles(folder, tastes):
    titles = pd.DataFrame({"item_id": [10], "title": ["B"]})
    checks = verify(folder, lambda *_, **__: saerec.Dataset(tastes, titles), set()).set_index("check")
    assert not checks.loc["data", "holds"]


def test_what_is_not_made_yet_is_told_from_what_fails(folder, capsys):
    record = read_record(folder)
    record["notebooks"]["04_user_report"] = {"inputs": NOTHING, "failed": "no memory"}
    write_record(folder, record)

    def load(dataset, **own):
        raise FileNotFoundError("no data set 'tastes'")

    checks = verify(folder, load, set()).set_index("check")
    assert failing(checks) == ["data"] and checks.loc["data", "found"] == "no data set 'tastes'"
    assert checks.index[checks["holds"].isna()].tolist() == ["04_user_report", "pages"]
    assert checks.loc["04_user_report", "found"] == "not finished: no memory"
    del record["notebooks"]["03_best_epoch"]["writes"]
    write_record(folder, record | {"data": None})
    checks = verify(folder, load, set())
    assert checks["holds"].isna().tolist() == [True] * 5 + [False]  # the record itself
    assert main(["verify", str(folder)]) == 1
    assert capsys.readouterr().out.count("not yet  ") == len(checks) - 1


def test_what_a_notebook_read_and_the_pages_must_be_as_they_were(folder, tastes):
    for name in ("index.html", "recommender.html"):
        (folder / name).write_text("whole")
    record = read_record(folder)
    reads = {"reads": checksums(folder, ["test.parquet"])}
    record["notebooks"]["06_peers"] = {"inputs": NOTHING | reads, "writes": {}}
    record["pages"] = checksums(folder, ["index.html", "recommender.html"])
    write_record(folder, record)
    assert check(folder, tastes)[0]["holds"].all()
    test = pd.read_parquet(folder / "test.parquet")
    test.assign(more=1).to_parquet(folder / "test.parquet")
    (folder / "recommender.html").unlink()
    (folder / "index.html").write_text("ha")
    checks, _ = check(folder, tastes)
    assert failing(checks) == ["03_best_epoch", "06_peers", "pages"]
    assert checks.loc["06_peers", "found"] == "test.parquet is not what it read"
    assert checks.loc["pages", "found"] == "index.html was changed; recommender.html is missing"


WORK = {"inputs": NOTHING, "writes": {"a.csv": "0"}}


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ([], "it is []"),
        ({}, "it lacks parameters"),
        ({"parameters": 3}, "parameters in it is 3"),
        ({"parameters": {}}, "parameters in it lacks dataset"),
        ({"parameters": {"dataset": "d", "n": {"a": 1}}}, "n in parameters in it is {'a': 1}"),
        ({"notebooks": []}, "notebooks in it is []"),
        ({"notebooks": {"01_a": []}}, "01_a in notebooks in it is []"),
        ({"notebooks": {"01_a": {}}}, "01_a in notebooks in it lacks inputs"),
        ({"notebooks": {"../01_a": WORK}}, "'../01_a' in notebooks in it is no file of the run"),
        ({"notebooks": {"01_a": WORK | {"writes": ["a.csv"]}}}, "writes in 01_a in notebooks in it is ['a.csv']"),
        ({"notebooks": {"01_a": WORK | {"writes": {"..": "0"}}}}, "'..' in writes in 01_a .* is no file of the run"),
        ({"notebooks": {"01_a": WORK | {"writes": {"/etc/passwd": "0"}}}}, "'/etc/passwd' in writes"),
        ({"notebooks": {"01_a": WORK | {"inputs": NOTHING | {"reads": {"a\\b": "0"}}}}}, "in reads in inputs in 01_a"),
        ({"notebooks": {"01_a": WORK | {"inputs": NOTHING | {"reads": {"a": 0}}}}}, "a in reads .* is 0"),
        (
            {"notebooks": {"01_a": WORK | {"parameters": {"n": None}}}},
            "n in parameters in 01_a in notebooks in it is None",
        ),
        ({"seconds": {"01_a": "long"}}, "01_a in seconds in it is 'long'"),
        ({"data": {"ratings": 3}}, "data in it lacks users"),
        ({"data": 3}, "data in it is 3"),
        ({"results": 3}, "results in it is 3"),
        ({"notebooks": {"01_a": WORK | {"folders": ["../checkpoints"]}}}, "'../checkpoints' in folders in 01_a"),
        ({"pages": {"../index.html": "0"}}, "is no file of the run"),
    ],
)
def test_a_record_of_another_form_is_one_error_of_ours(tmp_path, spoiled, message, capsys):
    whole = {"parameters": {"dataset": "d"}, "notebooks": {"01_a": WORK}}
    (tmp_path / "run.json").write_text(json.dumps(whole))
    assert read_record(tmp_path)["notebooks"] == {"01_a": WORK}
    spoiled = whole | spoiled if spoiled else spoiled
    (tmp_path / "run.json").write_text(json.dumps(spoiled))
    pattern = re.sub(r"\\\.\\\*", ".*", re.escape(message).replace(r"\ ", " "))
    with pytest.raises(ValueError, match=rf"run\.json is damaged: .*{pattern}.*; with --restart"):
        read_record(tmp_path)
    for command in (["verify", str(tmp_path)], ["run", "--out", str(tmp_path), "--only", "06"]):
        assert main(command) == 1
    assert capsys.readouterr().err.count("is damaged") == 2


def test_pages_and_styles_are_part_of_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(saerec.record, "PACKAGE", tmp_path)
    found = set()
    for name in ("a.py", "page.html", "pages.css", "saerec.mplstyle"):
        (tmp_path / name).touch()
        found.add(saerec.record.code())
    assert len(found) == 4
    (tmp_path / "a.pyc").touch()
    assert saerec.record.code() in found


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parameters": {"dataset": 5}}', '{"parameters": 3}'])
def test_a_damaged_record_says_so(tmp_path, text, capsys):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"run\.json is damaged: .*; with --restart the command that made it makes it anew"
    ):
        read_record(tmp_path)
    assert main(["verify", str(tmp_path)]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_the_command_says_what_holds(folder, tastes, capsys, monkeypatch):
    monkeypatch.setattr(saerec.series, "load_dataset", lambda dataset, **own: with_titles(tastes))
    (folder / "index.html").touch()
    write_record(folder, read_record(folder) | {"pages": checksums(folder, ["index.html"])})
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.count("holds  ") == 5
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

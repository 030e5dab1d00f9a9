"""The command line: what it prints, and that whatever goes wrong is one clear line and a non-zero exit."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec import runs, series, study
from saerec.__main__ import _told, main
from saerec.files import remove
from saerec.recommender import FILE
from saerec.record import new_record, read_record, write_record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder, as far as `saerec recommend` needs it."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    cells = rng.permutation(20 * 30)[:300]
    ratings = pd.DataFrame({"user_id": cells // 30 + 100, "item_id": cells % 30 * 7, "rating": rng.integers(1, 6, 300)})
    train, _, test = saerec.split_ratings(ratings, valid=0.0)
    saerec.Recommender(hidden_dims=(4,), n_epochs=1).fit(train).save(folder / "model")
    test.to_parquet(folder / "test.parquet")
    movies = pd.DataFrame({"item_id": np.arange(30) * 7, "title": [f"Movie {i}" for i in range(30)], "genres": "Drama"})
    movies.to_parquet(folder / "movies.parquet")
    ratings.to_parquet(folder / "ratings.parquet")
    return folder


def test_recommend_prints_a_table_of_unseen_titles(run, capsys):
    assert main(["recommend", "--run", str(run), "--user", "105", "-k", "4"]) == 0
    table, explained = capsys.readouterr().out.split("\n\n")
    first, header, *rows = table.splitlines()
    assert first == "user 105: the best 4 of what they have not rated, by predicted rating and chance"
    assert header.split() == ["#", "rating", "chance", "ratings", "title"]
    assert [row.split()[0] for row in rows if "because" not in row] == ["1", "2", "3", "4"]
    assert all(re.match(r"\d+ .* Movie \d+$| +because Movie \d+$", row) for row in rows)
    assert [line.split()[0] for line in explained.splitlines()] == ["rating", "chance", "ratings", "because"]


def test_a_list_fits_a_terminal_whatever_the_titles(run):
    movies = pd.read_parquet(run / "movies.parquet").assign(title="Long " * 40)
    movies.loc[::2, "title"] = None
    top = saerec.load(run / "model").recommend([105], movies=movies).assign(error=0.5)
    header, *rows = _told(top).splitlines()
    assert "±" in header and max(map(len, rows)) <= 80 and len(rows) > len(top)
    assert any(row.endswith("(no title)") for row in rows) and any(row.endswith("Long…") for row in rows)
    assert len(_told(top.drop(columns=["error", "because_title"])).splitlines()) == 1 + len(top)


@pytest.mark.parametrize("better", ["", "user means"])
def test_a_run_that_is_worse_than_a_baseline_says_so(tmp_path, monkeypatch, capsys, better):
    scores = pd.Series({"global mean": 1.2, "user means": 0.79 if better else 1.0, "saerec": 0.8}, name="rmse")
    scores.rename_axis("model").to_csv(tmp_path / "scores.csv")
    monkeypatch.setattr(series, "run", lambda *_, **__: tmp_path / "index.html")
    assert main(["run"]) == 0
    said = (
        "on these data saerec is not worth its training: on the test ratings it is off by 0.8000, user means by 0.7900"
    )
    assert (said in capsys.readouterr().out) == bool(better)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_lists_of_all_users_are_written_part_by_part(run, tmp_path, monkeypatch, capsys, suffix):
    expected = saerec.load(run / "model").recommend(k=3, seen=pd.read_parquet(run / "ratings.parquet"), because=False)
    file = tmp_path / f"top{suffix}"
    arguments = ["recommend", "--run", str(run), "--out", str(file), "-k", "3"]
    for users_in_a_part in (10_000, 7):
        monkeypatch.setattr("saerec.__main__.USERS_IN_A_PART", users_in_a_part)
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"wrote the lists of 20 users to {file}\n"
        lists = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
        pd.testing.assert_frame_equal(lists[list(expected)], expected, check_dtype=False)
        assert (lists["title"] == "Movie " + (lists["item_id"] // 7).astype(str)).all()
    counts = saerec.load(run / "model").ratings.user_counts
    assert main([*arguments, "--min-ratings", str(counts.max())]) == 0
    assert f"lists of {(counts == counts.max()).sum()} users" in capsys.readouterr().out
    assert main([*arguments, "--users", "107, 105,107", "--k", "2"]) == 0
    lists = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    assert lists[["user_id", "rank"]].to_numpy().tolist() == [[107, 1], [107, 2], [105, 1], [105, 2]]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "top10.xlsx"], "top10.xlsx ends neither in .csv nor in .parquet"),
        (["--out", "top10.csv", "--min-ratings", "99"], "no user has 99 training ratings: lower --min-ratings"),
        (["--user", "99"], "user 99 was not in the data"),
        (["--user", "anna"], "user 'anna' was not in the data: its user ids are whole numbers, for example 100"),
        (["--user", "105", "--min-ratings", "3"], "--min-ratings is of the lists of all users: it goes with --out"),
        (["--user", "105", "--users", "107"], "--users is of the lists of all users: it goes with --out"),
        (["--out", "top10.csv", "--users", "107,99"], "user 99 was not in the data"),
        (["--user", "105", "-k", "0"], "k must be a whole number of at least 1, not 0"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_1(run, capsys, arguments, message):
    assert main(["recommend", "--run", str(run), *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(f"saerec: {message}") and output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("epochs=3", "no notebook has a parameter 'epochs'; there are batch_size, "),
        ("dataset=ml-1m", "dataset is no parameter to set with the others: give it as --dataset"),
        ("n_epochs=many", "the parameter n_epochs is of type int"),
        ("n_epochs", "-p takes NAME=VALUE, not 'n_epochs'"),
    ],
)
def test_training_with_parameters_that_are_none_is_one_line_and_exit_1(tmp_path, capsys, parameter, message):
    assert main(["train", "--out", str(tmp_path / "new"), "-p", parameter]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(f"saerec: {message}") and output.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_training_alone_reads_a_file_and_goes_on(tmp_path, capsys):
    rng = np.random.default_rng(0)
    cells = rng.permutation(20 * 30)[:300]
    ratings = pd.DataFrame({"customer": cells // 30, "item_id": cells % 30, "rating": rng.integers(1, 6, 300)})
    ratings.to_csv(tmp_path / "shop.csv", index=False)
    arguments = ["train", "--dataset", str(tmp_path / "shop.csv"), "--out", str(tmp_path / "run"), "--quiet"]
    arguments += ["-p", "user=customer", "-p", "n_epochs=2", "-p", "hidden_dims=4", "-p", "keep=best"]
    written = []
    for more in ([], ["--resume"]):
        assert main([*arguments, *more]) == 0
        assert "regularised biases" in capsys.readouterr().out
        written.append([(tmp_path / "run" / name).read_bytes() for name in ("history.csv", "scores.csv")])
    assert written[0] == written[1]
    assert saerec.load(tmp_path / "run" / "model").ratings.n_ratings == 240
    folders = [path.parent.name for path in (tmp_path / "run" / "checkpoints").glob("*/epoch_*")]
    assert sorted(folders) == ["both", "item"]

    assert main(arguments) == 1
    told = (
        f"{tmp_path / 'run'} holds an earlier training (checkpoints): go on with it (--resume), remove it (--restart)"
    )
    assert told in capsys.readouterr().err
    assert [(tmp_path / "run" / name).read_bytes() for name in ("history.csv", "scores.csv")] == written[0]
    (tmp_path / "run" / "notes.txt").touch()
    before = (tmp_path / "run" / "model" / FILE).read_bytes()
    assert main([*arguments, "--restart", "-p", "seed=1"]) == 0
    assert (tmp_path / "run" / "model" / FILE).read_bytes() != before and (tmp_path / "run" / "notes.txt").exists()
    write_record(tmp_path / "run", new_record() | {"parameters": {"dataset": "d"}})
    assert main([*arguments, "--restart"]) == 1
    assert "is the folder of a run of the notebooks" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--restart"], ["--resume"]])
def test_what_is_no_training_is_never_removed_nor_written_over(shop, monkeypatch, capsys, more):
    monkeypatch.setattr(study, "parts", lambda *_: pytest.fail("the data were read"))
    folder = shop.with_name("mine")
    mine = ("thesis.txt", "model/w.bin", "scores.csv", "checkpoints/diffusion_model.safetensors")
    for name in mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    assert main(["train", "--dataset", str(shop), "--out", str(folder), *more]) == 1
    told = (
        f"saerec: {folder} holds files that are called like those of a training (checkpoints) but are of none: choose "
        "another"
    )
    assert capsys.readouterr().err == f"{told} folder with --out\n"
    assert all((folder / name).read_text() == "mine" for name in mine)


def test_going_on_with_other_settings_is_refused_and_leaves_the_training_as_it_is(shop, capsys):
    folder = shop.with_name("trained")
    own = ["--user", "who", "--item", "what", "--rating", "stars", "-p", "n_epochs=2", "-p", "hidden_dims=3"]
    arguments = ["train", "--dataset", str(shop), "--out", str(folder), *own, "--quiet"]
    assert main([*arguments, "-p", "orientation=both", "-p", "hidden_dims=3,3"]) == 1
    assert "takes one hidden layer" in capsys.readouterr().err
    assert main(arguments) == 0  # what failed at once is no earlier training
    before = (folder / "run.json").read_bytes()
    assert main([*arguments, "--resume", "-p", "lr=0.5"]) == 1
    assert f"cannot go on with the training in {folder}: lr was 0.0, is 0.5" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before and main(["verify", str(folder)]) == 0
    (folder / "run.json").write_text("{")
    assert main(arguments) == 1 and "is damaged" in capsys.readouterr().err
    assert main([*arguments, "--restart"]) == 0 and main(["verify", str(folder)]) == 0
    assert main(["train", "--out", str(folder), "--resume", "--quiet"]) == 0  # settings and data are those of before
    assert main(["verify", str(folder)]) == 0


def test_a_training_that_was_stopped_in_its_first_epoch_goes_on(shop, capsys):
    folder = shop.with_name("stopped")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / ".lock").touch()
    own = ["--user", "who", "--item", "what", "--rating", "stars", "-p", "n_epochs=1", "-p", "hidden_dims=4"]
    assert main(["train", "--dataset", str(shop), "--out", str(folder), *own, "--quiet", "--resume"]) == 0


def test_what_training_alone_leaves_recommends(tmp_path, capsys):
    ratings = pd.DataFrame({"user_id": np.arange(90) // 9, "item_id": np.arange(90) % 10, "rating": np.arange(90) % 5})
    ratings.to_csv(tmp_path / "shop.csv", index=False)
    titles = pd.DataFrame({"item_id": range(10), "title": [f"Thing {i}" for i in range(10)]})
    titles.to_csv(tmp_path / "titles.csv", index=False)
    arguments = ["train", "--dataset", str(tmp_path / "shop.csv"), "--titles", str(tmp_path / "titles.csv"), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "run"), "-p", "n_epochs=1", "-p", "hidden_dims=4"]) == 0
    capsys.readouterr()
    for user in range(10):  # each has rated all but one
        (unseen,) = {*range(10)} - {*ratings.loc[ratings["user_id"] == user, "item_id"]}
        assert main(["recommend", "--run", str(tmp_path / "run"), "--user", str(user), "-k", "1"]) == 0
        assert f"Thing {unseen}\n" in capsys.readouterr().out
    assert main(["page", "--run", str(tmp_path / "run")]) == 0


def test_training_alone_leaves_a_record_that_is_verified(shop, capsys, monkeypatch):
    folder = shop.with_name("trained")
    arguments = ["train", "--dataset", str(shop), "--out", str(folder), "--user", "who", "--item", "what"]
    arguments += ["--rating", "stars", "-p", "n_epochs=1", "-p", "hidden_dims=4", "--quiet", "--keep", "best"]
    assert main(arguments) == 0
    record = read_record(folder)
    assert record["parameters"]["seed"] == 0 and record["parameters"]["keep"] == "best"
    assert record["data"]["ratings"] == 300 and "torch" in record["versions"]
    assert record["results"][-1]["model"] == "saerec" and record["seconds"]["train"] > 0
    assert main(["page", "--run", str(folder)]) == main(["verify", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "holds  train: 6 files as they were written" in told and told.count("holds  ") == 5

    (folder / "scores.csv").write_text("model,rmse\nsaerec,0.1\n")
    assert main(["verify", str(folder)]) == 1
    (folder / "scores.csv").write_text("")
    assert main(["verify", str(folder)]) == 1
    assert capsys.readouterr().out.count("scores.csv is no table: No columns to parse from file") == 2
    (folder / "model" / "more").touch()
    assert main(["recommend", "--run", str(folder), "--user", "1"]) == 1
    assert f"{folder / 'model'} is not as train wrote it; run that again first" in capsys.readouterr().err
    for command in (["run"], ["run", "--only", "03"], ["run", "--restart"]):
        assert main([*command, "--out", str(folder)]) == 1
        assert f"{folder} is the folder of saerec train: choose another with --out" in capsys.readouterr().err

    fit = saerec.Recommender.fit

    def interrupted(self, *arguments, **options):
        fit(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saerec.Recommender, "fit", interrupted)
        assert main([*arguments, "--resume"]) == 130
    capsys.readouterr()
    assert main(["recommend", "--run", str(folder), "--user", "1"]) == 1
    assert f"the training in {folder} is not finished: saerec train --resume goes on" in capsys.readouterr().err
    assert main(["verify", str(folder)]) == 1 and "not yet  train: not finished" in capsys.readouterr().out
    assert main(arguments) == 1 and "holds an earlier training" in capsys.readouterr().err
    remove(folder / "model")
    with pytest.raises(
        FileNotFoundError, match="model is missing: saerec train writes it, and with --resume once more"
    ):
        runs.artefact(folder, "model")
    assert main([*arguments, "--resume"]) == main(["verify", str(folder)]) == 0


def test_who_reads_no_further_hears_nothing_of_it(run):
    command = [sys.executable, "-m", "saerec", "recommend", "--run", str(run), "--user", "105"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (1, "")


def test_an_unknown_run_is_one_line_and_exit_1(tmp_path, capsys):
    assert main(["recommend", "--run", str(tmp_path / "none"), "--user", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"saerec: there is no run in {tmp_path / 'none'}") and error.count("\n") == 1


def test_nothing_that_was_rated_is_listed_and_a_short_list_is_explained(run, capsys):
    assert main(["recommend", "--run", str(run), "--user", "105", "-k", "30"]) == 0
    output = capsys.readouterr()
    ratings = pd.read_parquet(run / "ratings.parquet")
    seen = {f"Movie {item // 7}" for item in ratings.loc[ratings["user_id"] == 105, "item_id"]}
    listed = set(re.findall(r"\d +(Movie \d+)\n", output.out))
    assert listed == {f"Movie {i}" for i in range(30)} - seen
    assert output.err == f"saerec: user 105 has only {30 - len(seen)} unseen items, so the list is shorter than k=30\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "epochs=3"], "no notebook has a parameter 'epochs'; there are batch_epochs, batch_size, "),
        (["-p", "n_epochs=three"], "the parameter n_epochs is of type int, like 0, not 'three'"),
        (["-p", "n_epochs"], "-p takes NAME=VALUE, not 'n_epochs'"),
        (["--dataset", "ml-0"], "no data set 'ml-0'"),
        (
            ["-p", "seed=1", "--only", "01_exploration"],
            "seed is a parameter of 02_training: add --only 02_training",
        ),
        (["--only", "09_nothing"], "there is no notebook '09_nothing'"),
    ],
)
def test_a_bad_run_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(series, "_execute", lambda *_: pytest.fail("a notebook was executed"))
    assert main(["run", "--out", str(tmp_path / "run"), *arguments]) == 1
    error = capsys.readouterr().err
    error = error.removeprefix("saerec run: the data and the notebooks are looked at\n")
    assert error.startswith(f"saerec: {message}") and error.count("\n") == 1


def test_run_passes_on_what_was_asked(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(series, "run", lambda *args, **options: asked.update(args=args, **options) or "index.html")
    assert (
        main(["run", "--dataset", "d", "--out", "o", "-p", "a=1", "-p", "b=x=y", "--only", "02_training", "--quiet"])
        == 0
    )
    assert asked["args"] == ("d", "o")
    assert asked["parameters"] == {"a": "1", "b": "x=y"}
    assert asked["only"] == ["02_training"] and asked["restart"] is False and asked["progress"] is False
    assert "index.html" in capsys.readouterr().out


def test_the_columns_of_a_file_are_parameters(monkeypatch):
    asked = {}
    monkeypatch.setattr(series, "run", lambda *args, **options: asked.update(args=args, **options) or "index.html")
    own = {
        "user": "who",
        "item": "what",
        "rating": "stars",
        "timestamp": "when",
        "titles": "t.csv",
        "duplicates": "last",
        "separator": "^",
        "encoding": "cp1252",
    }
    options = [text for name, value in own.items() for text in (f"--{name}", value)]
    assert main(["run", "--dataset", "shop.csv", *options, "-p", "seed=3"]) == 0
    assert asked["parameters"] == own | {"seed": "3"}


def test_what_another_run_did_once_more(monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(series, "run", lambda *args, **options: asked.update(args=args, **options) or "index.html")
    assert main(["run", "--like", "model", "--out", "o", "-p", "seed=4", "--keep", "best"]) == 0
    assert asked["args"] == ("", "o") and asked["like"] == Path("model")
    assert asked["parameters"] == {"seed": "4", "keep": "best"}
    assert main(["run", "--like", "model"]) == 1
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith("saerec run: ")  # at once
    assert "--like needs --out" in output[-1]


@pytest.mark.parametrize("asked", ["by Ctrl-C", "to end"])
def test_an_interruption_says_how_to_go_on(monkeypatch, capsys, asked):
    def interrupted(*_, **__):
        if asked == "to end":
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt  # SIGINT itself is ignored by whom a shell has started in the background

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(series, "run", interrupted)
    assert main(["run"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert "saerec run goes on from there, without --restart" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["before", "within"])
def test_an_interrupted_training_says_what_is_kept(monkeypatch, tmp_path, capsys, when):
    def interrupted(*_, **__):
        told = f"training stopped in epoch 6; {tmp_path} holds 5; to go on, fit again with resume=True"
        raise KeyboardInterrupt(*([] if when == "before" else [told]))

    monkeypatch.setattr(study, "train", interrupted)
    assert main(["train", "--out", str(tmp_path)]) == 130
    kept = "" if when == "before" else f": training stopped in epoch 6; {tmp_path} holds 5"
    assert capsys.readouterr().err == f"saerec: interrupted{kept}; the same command with --resume goes on\n"


def test_an_interrupted_tune_prints_and_writes_what_is_finished(shop, monkeypatch, capsys):
    monkeypatch.setitem(saerec.tune.__kwdefaults__, "grid", {"dropout": (0.3, 0.7)})
    fit = saerec.Recommender.fit

    def interrupted(self, *arguments, **options):
        if self.dropout == 0.7:
            raise KeyboardInterrupt
        return fit(self, *arguments, **options)

    monkeypatch.setattr(saerec.Recommender, "fit", interrupted)
    own = ["--dataset", str(shop), "--user", "who", "--item", "what", "--rating", "stars"]
    assert main(["tune", *own, "-p", "n_epochs=1", "--quiet", "--out", str(shop.with_name("tune.csv"))]) == 0
    output = capsys.readouterr()
    assert "dropout=0.3" in output.out and "dropout=0.7" not in output.out
    assert output.err == "saerec: interrupted: 2 of 3 possible tries are finished\n"
    assert len(pd.read_csv(shop.with_name("tune.csv"))) == 2


@pytest.fixture
def shop(tmp_path):
    """A file of your own, too small to learn much from."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(20 * 30)[:300]
    file = tmp_path / "shop.csv"
    frame = pd.DataFrame({"who": cells // 30, "what": cells % 30, "stars": rng.integers(1, 6, 300)})
    frame.to_csv(file, index=False)
    return file


def test_tune_prints_a_table_and_lines_that_train_with_the_best(shop, monkeypatch, capsys):
    monkeypatch.setitem(saerec.tune.__kwdefaults__, "grid", {"orientation": ("both",), "dropout": (0.0, 0.3)})
    own = ["--dataset", str(shop), "--user", "who", "--item", "what", "--rating", "stars", "-p", "hidden_dims=8"]
    arguments = [*own, "-p", "n_epochs=1", "-p", "seed=2", "--quiet", "--out", str(shop.with_name("tune.csv"))]
    assert main(["tune", *arguments]) == 0
    first, _, *rows, last, caveat, command, code = capsys.readouterr().out.splitlines()
    assert first == "216 training and 24 validation ratings; the test ratings are not looked at"
    written = pd.read_csv(shop.with_name("tune.csv"))
    assert len(rows) == len(written) == 4 and written["settings"].isin(["the defaults"]).sum() == 1
    assert written["valid_rmse"].is_monotonic_increasing and written["settings"][0] in rows[0]
    assert last.startswith(f"best: {written['settings'][0]}; error {written['gain'][0]:.4f} lower than")
    chance = written["gain"][0] <= 2 * written["gain_error"][0]
    assert ("which may be chance" in last) == chance and ("more than chance" in last) != chance
    assert caveat == "One split, one seed, and the best of many tries."
    train, valid, _, _ = series.training_parts(shop, {"user": "who", "item": "what", "rating": "stars", "seed": "2"})
    best = eval(code.replace("Recommender(", "Recommender(refit=False, ")).fit(train, valid)
    assert best.evaluate(valid)["rmse"] == pytest.approx(written["valid_rmse"][0])
    asked = {}
    monkeypatch.setattr(series, "run", lambda *args, **options: asked.update(args=args, **options) or "index.html")
    assert main(shlex.split(command)[1:]) == 0
    assert asked["args"] == (str(shop), "runs/tuned")
    typed = series._typed(asked["parameters"], {path: series.parameters_of(path) for path in series._choose([])})
    keywords = eval(code.strip().replace("saerec.Recommender", "dict"))
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in typed.items()} == {
        "user": "who",
        "item": "what",
        "rating": "stars",
        **keywords,
    }
    assert keywords.keys() >= {"n_epochs", "seed", "hidden_dims"}  # not the defaults: there is something to paste


def test_tune_says_what_there_was_no_time_for(shop, monkeypatch, capsys):
    monkeypatch.setitem(saerec.tune.__kwdefaults__, "grid", {"dropout": (0.3, 0.7)})
    own = ["--dataset", str(shop), "--user", "who", "--item", "what", "--rating", "stars"]
    assert main(["tune", *own, "-p", "n_epochs=1", "--quiet", "--minutes", "0"]) == 0
    output = capsys.readouterr().out
    assert "not tried, for want of time (--minutes): dropout=0.3; dropout=0.7\nbest: the defaults\n" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "tune.xlsx"], "tune.xlsx ends neither in .csv nor in .parquet"),
        (["-p", "epochs=3"], "no notebook has a parameter 'epochs'"),
        (["-p", "valid_share=0"], "without validation ratings there is nothing to choose on"),
    ],
)
def test_a_bad_tune_is_refused_before_anything_is_trained(shop, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(saerec, "tune", lambda *_, **__: pytest.fail("something was tried"))
    own = ["--dataset", str(shop), "--user", "who", "--item", "what", "--rating", "stars"]
    assert main(["tune", *own, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"saerec: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("command", ["fetch", "run", "train", "recommend", "page", "verify", "tune"])
def test_help_is_worth_reading(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert f"usage: saerec {command}" in text and "example" in text
    assert command != "run" or "runs/<dataset> of the project's folder" in " ".join(text.split())


def test_the_package_is_a_program():
    ended = subprocess.run([sys.executable, "-m", "saerec", "recommend", "--run", "."], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "usage: saerec" in ended.stderr and "--user" in ended.stderr

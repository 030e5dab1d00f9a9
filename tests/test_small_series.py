"""The series on a few users: the same bits from `saerec run`, plain papermill in any folder, and JupyterLab."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
import torch
from nbclient import NotebookClient
from safetensors.torch import load_file

import saerec
from saerec import series, study
from saerec.recommender import FILE

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALL = {"n_users": 200, "n_items": 100, "n_epochs": 3, "hidden_dims": [20], "models": []}
SMALL |= {"original_epochs": 2, "short_epochs": 1, "batch_epochs": 2, "n_seeds": 1, "seeds": 1}


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    series.run(out=folder, parameters=SMALL, progress=False)
    return folder


TRAINED = ["history.csv", "trained/recommender.safetensors"]
REPORTED = ["scores.csv", "model/recommender.safetensors", "top10.csv", "predictions.csv"]


def contents(folder, names=(*TRAINED, *REPORTED)):
    """What must not differ between two runs: history, models and lists, byte for byte."""
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.series
def test_plain_papermill_in_another_folder_gives_the_same_bits(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-p", "out", "here"]
    cut = ["-p", "n_users", str(SMALL["n_users"]), "-p", "n_items", str(SMALL["n_items"])]
    subprocess.run([*command, *cut, NOTEBOOKS[0], "01.ipynb"], check=True, capture_output=True)
    declared = series.parameters_of(NOTEBOOKS[1])
    values = {name: value for name, value in SMALL.items() if name in declared} | {"out": "here"}
    papermill.execute_notebook(NOTEBOOKS[1], "02.ipynb", values, progress_bar=False)
    assert contents(tmp_path / "here", TRAINED) == contents(small_run, TRAINED)


@pytest.mark.series
def test_jupyter_gives_the_same_bits(small_run, tmp_path):
    """JupyterLab's kernel works in the folder of the notebook; a reader edits the parameters in place."""
    for path in NOTEBOOKS[:4]:
        notebook = nbformat.read(path, as_version=4)
        values = series.parameters_of(path) | SMALL | {"out": str(tmp_path)}
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        NotebookClient(notebook, resources={"metadata": {"path": path.parent}}).execute()
    assert contents(tmp_path) == contents(small_run)


@pytest.mark.series
def test_saerec_tune_chooses_on_what_the_series_trains_on(small_run):
    cut = {name: value for name, value in SMALL.items() if name in ("n_users", "n_items", "n_epochs", "hidden_dims")}
    train, valid, features, given = series.training_parts(parameters=cut)
    for name, part in {"train": train, "valid": valid}.items():
        pd.testing.assert_frame_equal(part, pd.read_parquet(small_run / f"{name}.parquet"))
    trained = saerec.load(small_run / "trained")
    pd.testing.assert_frame_equal(
        features.reindex(trained.item_ids), trained.item_features, check_names=False, check_dtype=False
    )
    assert given == {"n_epochs": 3, "hidden_dims": (20,), "seed": 0, "device": "cpu"}


@pytest.mark.series
def test_two_layouts_go_through_the_series(small_run, tmp_path):
    for name in ("run.json", "ratings.parquet", "movies.parquet"):
        shutil.copy(small_run / name, tmp_path / name)
    settings = {"orientation": "mean", "n_epochs": 2, "hidden_dims": [20]}
    series.run(out=tmp_path, parameters=settings, only=[path.stem for path in NOTEBOOKS[1:4]], progress=False)
    history, model = pd.read_csv(tmp_path / "history.csv"), saerec.load(tmp_path / "model")
    assert history[["layout", "epoch"]].to_numpy().tolist() == [["item", 1], ["item", 2], ["both", 1], ["both", 2]]
    for layout, curves in history.groupby("layout"):
        assert model.best_epochs[layout] == saerec.best_epoch(curves)
    scores = pd.read_csv(tmp_path / "scores.csv", index_col="model")
    test = pd.read_parquet(tmp_path / "test.parquet")
    assert model.evaluate(test) == pytest.approx(scores.loc["saerec"].to_dict(), rel=1e-12)
    top = pd.read_csv(tmp_path / "top10.csv")
    assert set(top["user_id"]) == set(model.user_ids)


@pytest.mark.series
def test_training_alone_gives_the_same_bits(small_run, tmp_path):
    given = {name: value for name, value in SMALL.items() if name in ("n_users", "n_items", "n_epochs", "hidden_dims")}
    study.train("ml-latest-small", tmp_path, series.settings(given))
    names = ["history.csv", "scores.csv"]
    assert contents(tmp_path, names) == contents(small_run, names)
    mine, theirs = (load_file(folder / "model" / FILE) for folder in (tmp_path, small_run))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.series
def test_another_seed_gives_other_bits(small_run, tmp_path):
    for name in ("run.json", "ratings.parquet", "movies.parquet"):
        shutil.copy(small_run / name, tmp_path / name)
    settings = {"n_epochs": 3, "hidden_dims": [20], "seed": 1}
    series.run(out=tmp_path, parameters=settings, only=[NOTEBOOKS[1].stem], progress=False)
    mine, theirs = contents(tmp_path, TRAINED), contents(small_run, TRAINED)
    assert [name for name in mine if mine[name] == theirs[name]] == []
    lists = [saerec.load(folder / "trained").recommend(k=10)["item_id"] for folder in (tmp_path, small_run)]
    assert not lists[0].equals(lists[1])


@pytest.mark.series
def test_the_variants_of_few_epochs_are_compared_at_those_epochs(small_run):
    """The original runs one epoch more than the variants that fail at once: what is compared is the earlier one."""
    ledger = pd.read_csv(small_run / "ledger.csv").set_index("defect")
    original = ledger.loc["1+2", "rmse_before"]
    assert ledger.loc["1", "rmse_before"] == ledger.loc["2", "rmse_before"] == ledger.loc["4 alone", "rmse_before"]
    assert ledger.loc["1", "rmse_before"] > original == ledger.loc["6", "rmse_before"]


@pytest.mark.series
def test_saerec_is_measured_among_its_peers_as_before(small_run):
    peers = pd.read_csv(small_run / "peers.csv", index_col="model")
    seconds = pd.read_csv(small_run / "peers_seconds.csv", index_col="model")
    assert list(peers.index[:3]) == ["saerec", "saerec: ratings alone", "saerec: item"]
    assert list(seconds.index) == list(peers.index) and (seconds["fit_seconds"] > 0).all()
    scores = pd.read_csv(small_run / "scores.csv", index_col="model")
    for model in ("saerec", "regularised biases"):
        assert peers.loc[model, "rmse"] == pytest.approx(scores.loc[model, "rmse"], abs=1e-4)

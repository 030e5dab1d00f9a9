"""What a run's folder holds: which notebook writes which file, which reads it, and whether it is as it was written."""

import os
import re
from contextlib import suppress
from pathlib import Path

import pandas as pd

from saerec.datasets import TABLE
from saerec.files import LOCK, WRITER, BusyFolderError, check_free, remove
from saerec.record import RECORD, TRAINING, new_record, others, read_record

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "notebooks").is_dir()  # from a wheel, which holds the notebooks; otherwise this is a checkout
NOTEBOOKS = (PACKAGE if INSTALLED else PACKAGE.parent) / "notebooks"
RUNS = (Path() if INSTALLED else PACKAGE.parent) / "runs"

# What the notebooks write to a run's folder: which of them, and what it is.
ARTEFACTS = {
    "ratings.parquet": ("01_exploration", "the ratings that the cut keeps"),
    "movies.parquet": ("01_exploration", "all items: title, genres, year"),
    "sizes.csv": ("01_exploration", "users, items and ratings before and after the cut"),
    "exploration.csv": (
        "01_exploration",
        "the numbers of its pictures: x, y, and value, what else is written or coloured",
    ),
    "train.parquet": ("02_training", "training ratings"),
    "valid.parquet": ("02_training", "validation ratings"),
    "test.parquet": ("02_training", "test ratings"),
    "baselines.csv": ("02_training", "validation errors of the baselines"),
    "history.csv": ("02_training", "training and validation error of every epoch"),
    "history.png": ("02_training", "a picture of the errors of every epoch"),
    "seconds.csv": ("02_training", "how long every epoch took"),
    "checkpoints": ("02_training", "the weights of every epoch, and what it takes to go on"),
    "trained": ("02_training", "the model of the best epoch, trained on the training ratings"),
    "scores.csv": ("03_best_epoch", "test errors of the model and the baselines"),
    "told_when.csv": ("03_best_epoch", "test errors of predictions that are told when a rating was given"),
    "scores.png": ("03_best_epoch", "a picture of the test errors"),
    "errors.csv": ("03_best_epoch", "test errors by rating, by activity and by popularity"),
    "list_scores.csv": ("03_best_epoch", "what lists in several orders are worth"),
    "calibration.csv": ("03_best_epoch", "how often the error bars held, and how wide they are, by group"),
    "predicted.csv": ("03_best_epoch", "quantiles of the predictions for each rating given"),
    "error_bars.csv": ("03_best_epoch", "half the interval of 80%, by number of ratings"),
    "refit": ("03_best_epoch", "what it takes to go on with the last training"),
    "model": ("03_best_epoch", "the final model, for saerec.load"),
    "top10.csv": ("04_user_report", "the list of every user"),
    "reports.csv": ("04_user_report", "the lists of the reported users"),
    "predictions.csv": ("04_user_report", "their predictions for all unseen items"),
    "explained.csv": ("04_user_report", "what each rating does for the prediction that is explained"),
    "for_you.csv": ("04_user_report", "the list of somebody new"),
    "ledger.csv": ("05_original_study", "the defects of the original study: test errors before and after each mending"),
    "ledger_seconds.csv": ("05_original_study", "how long an epoch, or what was timed, took before and after"),
    "ledger.png": ("05_original_study", "test errors from the original to saerec, a bar for each step"),
    "original.png": ("05_original_study", "the original's errors, epoch by epoch"),
    "original_history.csv": ("05_original_study", "errors of the original and of what was mended, epoch by epoch"),
    "original": ("05_original_study", "what it takes to go on with its trainings; gone when all is done"),
    "peers": ("06_peers", "what is measured so far; gone when all is done"),
    "peers.csv": ("06_peers", "saerec and other recommenders: test errors and what their lists are worth"),
    "peers_seconds.csv": ("06_peers", "how long each took, and how much memory"),
    "peers.png": ("06_peers", "a picture of their errors and lists"),
}

# What they read of it.
READS = {
    "02_training": ("ratings.parquet", "movies.parquet"),
    "03_best_epoch": ("trained", "history.csv", "baselines.csv", "train.parquet", "valid.parquet", "test.parquet"),
    "04_user_report": ("model", "movies.parquet", "ratings.parquet"),
    "05_original_study": ("ratings.parquet", "movies.parquet"),
    "06_peers": ("trained", "train.parquet", "valid.parquet", "test.parquet"),
}
UNTIL_DONE = {"original", "peers"}  # of no use once their notebook is done
CHECK_THEMSELVES = {"checkpoints", "refit"} | UNTIL_DONE  # their files hold their own checksums
TRAINED_BY = ("01_exploration", "02_training")  # whose parameters are all that training takes

SCORES = "scores.csv"
INDEX_PAGE, RECOMMENDER_PAGE = PAGES = ("index.html", "recommender.html")
# What the latter is made of, after the notebooks, and every list:
FOR_ITS_PAGE = ("model", "movies.parquet", "ratings.parquet")


def written_by(notebook: str) -> list[str]:
    """The names of what a notebook writes."""
    return [name for name, (writer, _) in ARTEFACTS.items() if writer == notebook]


def run_folder(dataset: str, out: str = "") -> Path:
    """The folder of a run, made if need be: `out`, or ``runs/<dataset>``.

    The latter in the checkout that saerec runs from; if it was installed from a wheel, in the current folder.

    Raises
    ------
    BusyFolderError
        Another process works in the folder, such as ``saerec run``, and this is none of its notebooks.
    """
    folder = folder_of(dataset, out)
    folder.mkdir(parents=True, exist_ok=True)
    check_free(folder)
    return folder


def folder_of(dataset: str, out: str) -> Path:
    """As `run_folder`, but the folder need not be there, or free."""
    return Path(out) if out else RUNS / re.sub(r"\.zip$|" + TABLE.pattern, "", Path(dataset).resolve().name)


def artefact(folder: Path, name: str) -> Path:
    """The path of a file (or folder) that an earlier notebook wrote to a run's folder.

    Raises
    ------
    FileNotFoundError
        It is not there; the message names the notebook to run first.
    """
    path = Path(folder) / name
    if not path.exists():
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no run in {folder}: no such folder; saerec run makes one")
        if TRAINING in record_of(Path(folder))["notebooks"]:
            raise FileNotFoundError(f"{path} is missing: saerec train writes it, and with --resume once more")
        raise FileNotFoundError(f"{path} is missing: the notebook {ARTEFACTS[name][0]} writes it, run that first")
    return path


def done_with(folder: Path, name: str) -> None:
    """Remove what a notebook needed to go on, now that all is written; unless another process is at it.

    If `saerec run` executes the notebook, it does that itself, when the record says that the notebook is done.
    """
    if WRITER not in os.environ:
        remove_idle(Path(folder, name))


def remove_idle(folder: Path) -> None:
    """Remove a folder, unless somebody holds it, or one in it."""
    with suppress(BusyFolderError):
        for lock in folder.rglob(LOCK):
            check_free(lock.parent)
        remove(folder)


def to_recommend(folder: Path) -> list[Path]:
    """The paths of what recommends in a run: its model, its items and its ratings.

    Raises
    ------
    FileNotFoundError
        As of `artefact`.
    ValueError
        One is not as its notebook wrote it, or that has begun to write it anew and not finished, or the model was made
        with other files than lie there now, or the run's record is damaged. A run without a record is taken as it is.
    """
    record = record_of(folder)
    if "writes" not in record["notebooks"].get(TRAINING, {"writes": ()}):
        raise ValueError(f"the training in {folder} is not finished: saerec train --resume goes on with it")
    paths = [artefact(folder, name) for name in FOR_ITS_PAGE]
    if unfit := unfit_to_recommend(folder, record):
        raise ValueError(unfit)
    return paths


def record_of(folder: Path) -> dict:
    """The record of a run; of a folder without one, an empty record.

    Raises
    ------
    ValueError
        It is damaged.
    """
    return read_record(folder) if Path(folder, RECORD).exists() else new_record()


def unfit_to_recommend(folder: Path, record: dict) -> str | None:
    """Why a model that is there should not recommend: it, or what it was made with, is of several minds."""
    for name in FOR_ITS_PAGE:
        if found := fault(folder, record, name):
            return found
    changed = changed_since(folder, record)
    of_model = [name for name in ("02_training", "03_best_epoch") if name in changed]
    if of_model:
        what = ", ".join(changed[of_model[0]])
        return f"{folder} is a mix: {of_model[0]} read another {what} than lies there; saerec run makes it anew"
    return None


def fault(folder: Path, record: dict, name: str) -> str | None:
    """Why a file of a run is not to be trusted; None of what no notebook in the record writes."""
    writer = TRAINING if TRAINING in record["notebooks"] else ARTEFACTS[name][0]
    work = record["notebooks"].get(writer, {"writes": {}})
    if "writes" not in work:
        return f"{Path(folder, name)} may be half old: {writer} is not finished; run it again first"
    if others(Path(folder), {each: checksum for each, checksum in work["writes"].items() if each == name}):
        return f"{Path(folder, name)} is not as {writer} wrote it; run that again first"
    return None


def changed_since(folder: Path, record: dict) -> dict[str, list[str]]:
    """Of notebooks that are done, what they read and is another now."""
    done = {name: work["inputs"]["reads"] for name, work in record["notebooks"].items() if "writes" in work}
    return {name: changed for name, reads in done.items() if (changed := others(folder, reads))}


def errors(folder: Path) -> pd.DataFrame | None:
    """The errors on the test ratings, as a run's scores.csv has them: a row for each column `model`.

    None if there are none, if the notebook that writes them is not done, or if they are not as it wrote them.
    """
    return table_of(folder, record_of(folder), SCORES)


def table_of(folder: Path, record: dict, name: str) -> pd.DataFrame | None:
    """What a notebook wrote, if it is done and nobody has changed it since."""
    if not Path(folder, name).exists() or fault(folder, record, name):
        return None
    table = pd.read_csv(Path(folder, name))
    return table if len(table) else None  # there are no lists to measure where nobody liked anything

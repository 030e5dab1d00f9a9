"""The record of a run, ``run.json``: what it was made of and what it made.

Enough to go on with the run, to make it again, and to tell whether it still holds.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from saerec import metrics
from saerec.baselines import fit_baselines
from saerec.files import save_atomically, sha256_of
from saerec.loading import load
from saerec.readers import Dataset
from saerec.recommender import Recommender
from saerec.storage import read_tensors
from saerec.validation import shortened

PACKAGE = Path(__file__).parent
RECORD = "run.json"
TRAINING = "train"  # the work of saerec train, recorded as a notebook's; it makes no pages
PLAIN_NAME = re.compile(r"\w[\w.-]*")  # leads nowhere else
LIBRARIES = ("numpy", "pandas", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
SOURCES = {".py", ".html", ".css", ".mplstyle"}
OF_SCORES = ("model", "scores.csv", "test.parquet")
TOLERANCE = 1e-5  # stars; another machine rounds otherwise


NOTHING, ANY_NAME, ANY_FILE = type(None), "*", "/"
VALUES = (str, int, float, bool, list)
FILES = {ANY_FILE: str}  # checksums
DATA = (NOTHING, {"ratings": int, "users": int, "items": int, "sha256": str, "sha256 of titles": str})
INPUTS = {"parameters": {ANY_NAME: VALUES}, "reads": FILES, "data": DATA, "notebook": str, "code": str}
WORK = {"inputs": INPUTS, "parameters?": {ANY_NAME: VALUES}, "writes?": FILES, "folders?": [PLAIN_NAME], "failed?": str}
# What a record must hold, and with a question mark may.
FORM = {
    "parameters": {"dataset": str, ANY_NAME: VALUES},
    "data?": DATA,
    "notebooks?": {ANY_FILE: WORK},
    "seconds?": {ANY_NAME: (int, float)},
    "pages?": FILES,
    "results?": list,
    "saerec?": str,
    "sha256?": str,
}


def new_record() -> dict:
    """That of a run of which nothing is done yet."""
    return {"parameters": {}, "data": None, "notebooks": {}, "seconds": {}, "pages": {}, "saerec": "?"}


def read_record(folder: Path) -> dict:
    """The record of a run.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is damaged.
    """
    path = Path(folder, RECORD)
    if not path.exists():
        raise FileNotFoundError(f"there is no run in {folder}: {RECORD}, which saerec run writes, is missing")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fault = _fault(record, FORM, "it")
    except (ValueError, RecursionError) as error:
        fault = error
    if fault:
        raise ValueError(f"{path} is damaged: {fault}; with --restart the command that made it makes it anew")
    return new_record() | record


def _fault(found: object, form: type | tuple | list | dict, where: str) -> str | None:
    """What is not as the form has it: a type, several, a list of plain names, or a dict of what stands under each."""
    if isinstance(form, list):
        names = found if type(found) is list else [None]
        odd = [name for name in names if not (isinstance(name, str) and PLAIN_NAME.fullmatch(name))]
        return f"{shortened(repr(odd[0]))} in {where} is no file of the run" if odd else None
    if isinstance(form, tuple):
        faults = [_fault(found, one, where) for one in form]
        return None if None in faults else faults[-1]
    if isinstance(form, type):
        return None if type(found) is form else f"{where} is {shortened(repr(found))}"
    if not isinstance(found, dict):
        return f"{where} is {shortened(repr(found))}"
    lacking = [name for name in form if name not in (*found, ANY_NAME, ANY_FILE) and not name.endswith("?")]
    faults = [f"{where} lacks {name}" for name in lacking]
    for name, value in found.items():
        if ANY_FILE in form and not PLAIN_NAME.fullmatch(name):
            faults.append(f"{shortened(repr(name))} in {where} is no file of the run")
        of_it = form.get(name, form.get(f"{name}?", form.get(ANY_FILE, form.get(ANY_NAME))))
        faults.append(of_it and _fault(value, of_it, f"{shortened(name)} in {where}"))
    return next(filter(None, faults), None)


def write_record(folder: Path, record: dict) -> None:
    """Write the record of a run, with a checksum of all of it: that tells what was edited, not who knows how to."""
    record = new_record() | record
    record |= {"sha256": _seal(record)}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    save_atomically(folder / RECORD, lambda part: part.write_text(text, encoding="utf-8"))


def _seal(record: dict) -> str:
    rest = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def fingerprint(data: Dataset) -> dict:
    """How many ratings, users and items there are, and checksums of all rows, columns and their order."""
    ratings = data.ratings
    counts = {"ratings": len(ratings), "users": ratings["user_id"].nunique(), "items": ratings["item_id"].nunique()}
    return counts | {"sha256": _checksum(ratings), "sha256 of titles": _checksum(data.movies)}


def _checksum(frame: pd.DataFrame) -> str:
    checksum = hashlib.sha256()
    for name in frame.columns:
        checksum.update(f"{name}\n".encode())
        checksum.update(pd.util.hash_pandas_object(frame[name], index=False).to_numpy())
    return checksum.hexdigest()


def surroundings() -> dict:
    """The code, the libraries and the machine."""
    return {
        "code": code(),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def code() -> str:
    """A checksum of saerec's own source, of its pages and pictures too."""
    files = sorted(path for path in PACKAGE.iterdir() if path.suffix in SOURCES)
    sources = "".join(f"{path.name} {sha256_of(path)}\n" for path in files)
    return hashlib.sha256(sources.encode()).hexdigest()


def _commit() -> str | None:
    """The git commit of a checkout, with a + if it has been changed since."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(PACKAGE.parent)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed.stdout else "")


def difference(before: Mapping, now: Mapping) -> str | None:
    """What makes a notebook's work another than before, in words; None if nothing does.

    Both hold "parameters" (dict), "data" (`fingerprint`), "notebook" and "code" (checksums) and "reads" (dict of
    checksums by file).
    """
    for name in sorted({*before["parameters"], *now["parameters"]}):
        old, new = (inputs["parameters"].get(name, "its default") for inputs in (before, now))
        if old != new:
            return f"{name} was {old}, is {new}"
    for name in sorted({*before["reads"], *now["reads"]}):
        if before["reads"].get(name) != now["reads"].get(name):
            return f"{name} is another"
    words = {"data": "the data are others", "notebook": "the notebook was edited", "code": "saerec's code is another"}
    return next((text for name, text in words.items() if before[name] != now[name]), None)


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Those of the files (and folders) that are there."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).exists()}


def others(folder: Path, then: Mapping[str, str]) -> list[str]:
    """Those of some files that do not lie in the folder as they did then."""
    now = checksums(folder, then)
    return [name for name, checksum in then.items() if now.get(name) != checksum]


def verify(folder: Path, load: Callable[..., Dataset], reads: set[str]) -> pd.DataFrame:
    """Whether a run still holds: what can be computed again is, and compared.

    Parameters
    ----------
    folder : Path
    load : callable
        Given the data set's name and those of its parameters that are called like `reads`, gives its `Dataset`.

    Returns
    -------
    DataFrame
        check, holds (boolean; missing of what is not made yet), found (text). Of every notebook, whether the files that
        it wrote and those that it read are as they were, and its checkpoints whole; of the pages, whether they are as
        they were; of the data set, whether it is the one that was read; of the model, whether its errors on the test
        ratings, and those of the baselines, are those of the run's tables; of the record, whether it was edited and
        has the results of these tables.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no record, or it is damaged.
    """
    folder = Path(folder)
    record = read_record(folder)
    checks = []
    for notebook, work in record["notebooks"].items():
        if "writes" not in work:
            goes_on = "saerec train --resume" if notebook == TRAINING else "saerec run"
            checks.append((notebook, None, f"not finished: {work.get('failed', f'{goes_on} goes on with it')}"))
            continue
        spoiled = _spoiled(folder, work["writes"])
        spoiled += [f"{name} is not what it read" for name in others(folder, work["inputs"]["reads"])]
        spoiled += _damaged(folder, work.get("folders", ()))
        checks.append(
            (notebook, not spoiled, "; ".join(spoiled) or f"{len(work['writes'])} files as they were written")
        )
    spoiled = _spoiled(folder, record["pages"])
    told = "; ".join(spoiled) or (" and ".join(record["pages"]) or "none yet")
    if record["pages"] or TRAINING not in record["notebooks"]:
        checks.append(("pages", not spoiled if record["pages"] else None, told))
    checks.append(("data", *_holds(lambda: _check_data(record, load, reads))))
    made = {name for work in record["notebooks"].values() for name in work.get("writes", ())}
    if made >= set(OF_SCORES):
        checks.append(("model", *_holds(lambda: _check_model(folder))))
    else:
        checks.append(("model", None, "not scored yet"))
    checks.append(("record", *_holds(lambda: _check_record(folder, record))))
    return pd.DataFrame(checks, columns=["check", "holds", "found"]).astype({"holds": "boolean"})


def _spoiled(folder: Path, then: Mapping[str, str]) -> list[str]:
    return [f"{name} {'was changed' if (folder / name).exists() else 'is missing'}" for name in others(folder, then)]


def _damaged(folder: Path, names: Iterable[str]) -> list[str]:
    """What is wrong in folders of checkpoints, whose files hold their own checksums; `keep` says which of them stay."""
    found = []
    for name in names:
        files = sorted((folder / name).rglob("*_*.safetensors"))
        found += [] if files else [f"{name} holds no checkpoint"]
        for file in files:
            try:
                read_tensors(file, "training" if file.name.startswith("state") else "weights")
            except (OSError, ValueError) as error:
                found.append(str(error))
    return found


def _check_record(folder: Path, record: dict) -> tuple[bool, str]:
    if record.get("sha256", _seal(record)) != _seal(record):
        return False, "it was edited since saerec wrote it"
    told = "as it was written" if "sha256" in record else "of an earlier saerec, without a checksum"
    if "results" not in record:
        return True, told
    scores = _read_scores(folder / "scores.csv").to_dict("records")
    if json.dumps(scores) != json.dumps(record["results"]):  # where nan is like nan
        return False, "its results are not those of scores.csv"
    return True, f"{told}, its results those of scores.csv"


def _holds(check: Callable[[], tuple[bool | None, str]]) -> tuple[bool | None, str]:
    try:
        return check()
    except (OSError, ValueError, KeyError) as error:
        return False, str(error)


def _check_data(record: dict, load: Callable[..., Dataset], reads: set[str]) -> tuple[bool | None, str]:
    if record["data"] is None:
        return None, "none read yet"
    own = {name: value for name, value in record["parameters"].items() if name in reads}
    now, then = fingerprint(load(record["parameters"]["dataset"], **own)), record["data"]
    if now == then:
        return True, f"{now['ratings']:,} ratings and their titles, the same as then"
    return False, f"{now['ratings']:,} ratings, then {then['ratings']:,}: not the same"


def _check_model(folder: Path) -> tuple[bool, str]:
    model, test = load(folder / "model"), pd.read_parquet(folder / "test.parquet")
    now = {"scores.csv": scores_of(model, test, model.predict(test["user_id"], test["item_id"]))}
    if model.drift and (folder / "told_when.csv").exists():
        now["told_when.csv"] = pd.DataFrame({"saerec, told when": model.evaluate(test, told_when=True)}).T
    told = ", ".join(f"{name} {error:.4f}" for name, error in now["scores.csv"].loc["saerec"].items())
    for file, computed in now.items():
        table = _read_scores(folder / file, index_col="model")
        then = table.reindex(index=computed.index, columns=computed.columns).apply(pd.to_numeric, errors="coerce")
        wrong = ~np.isclose(computed, then, rtol=0, atol=TOLERANCE)  # nan, which is like nothing, where there is none
        for row, col in zip(*wrong[::-1].nonzero()):  # of saerec first
            of, name = computed.index[::-1][row], computed.columns[col]
            return (
                False,
                f"{told}; in {file}: {name} {then.loc[of, name]:.4f} of {of}, not {computed.loc[of, name]:.4f}",
            )
    known = [*now["scores.csv"].index]
    more = [name for name in _read_scores(folder / "scores.csv")["model"] if name not in known]
    return not more, told + (
        f"; scores.csv tells of {more[0]}, which is none of the run's" if more else ", as in scores.csv"
    )


def _read_scores(path: Path, **options) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **options)
    except ValueError as error:  # pandas names no file
        raise ValueError(f"{path.name} is no table: {error}") from error


def scores_of(model: Recommender, test: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """The errors of a model's predictions of test ratings, and of the baselines: rmse, user_rmse and mae by model."""
    known = model.ratings
    rows, cols = known.positions(test["user_id"], test["item_id"])
    baselines = fit_baselines(known, shrinkage=model.shrinkage)
    predictions = {name: baseline.predict(rows, cols).clip(*known.scale) for name, baseline in baselines.items()}
    predictions["saerec"] = predicted
    errors = {name: metrics.scores(test["rating"], each, test["user_id"]) for name, each in predictions.items()}
    return pd.DataFrame(errors).T.rename_axis("model")

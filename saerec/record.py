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

from saerec import recommender
from saerec.files import save_atomically, sha256_of
from saerec.readers import Dataset
from saerec.validation import shortened

PACKAGE = Path(__file__).parent
RECORD = "run.json"
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
WORK = {"inputs": INPUTS, "parameters?": {ANY_NAME: VALUES}, "writes?": FILES, "failed?": str}
# What a record must hold, and with a question mark may.
FORM = {
    "parameters": {"dataset": str, ANY_NAME: VALUES},
    "data?": DATA,
    "notebooks?": {ANY_FILE: WORK},
    "seconds?": {ANY_NAME: (int, float)},
    "pages?": FILES,
    "saerec?": str,
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
        raise ValueError(f"{path} is damaged: {fault}; saerec run --restart makes the run anew")
    return new_record() | record


def _fault(found: object, form: type | tuple | dict, where: str) -> str | None:
    """What is not as the form has it: a type, several, or a dict of what stands under each name."""
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
    """Write the record of a run."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    save_atomically(folder / RECORD, lambda part: part.write_text(text, encoding="utf-8"))


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
        it wrote and those that it read are as they were; of the pages, whether they are; of the data set, whether it is
        the one that was read; of the model, whether its errors on the test ratings are those of the run's table.

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
            checks.append((notebook, None, f"not finished: {work.get('failed', 'saerec run goes on with it')}"))
            continue
        spoiled = _spoiled(folder, work["writes"])
        spoiled += [f"{name} is not what it read" for name in others(folder, work["inputs"]["reads"])]
        checks.append(
            (notebook, not spoiled, "; ".join(spoiled) or f"{len(work['writes'])} files as they were written")
        )
    spoiled = _spoiled(folder, record["pages"])
    told = "; ".join(spoiled) or (" and ".join(record["pages"]) or "none yet")
    checks.append(("pages", not spoiled if record["pages"] else None, told))
    checks.append(("data", *_holds(lambda: _check_data(record, load, reads))))
    made = {name for work in record["notebooks"].values() for name in work.get("writes", ())}
    if made >= set(OF_SCORES):
        checks.append(("model", *_holds(lambda: _check_model(folder))))
    else:
        checks.append(("model", None, "not scored yet"))
    return pd.DataFrame(checks, columns=["check", "holds", "found"]).astype({"holds": "boolean"})


def _spoiled(folder: Path, then: Mapping[str, str]) -> list[str]:
    return [f"{name} {'was changed' if (folder / name).exists() else 'is missing'}" for name in others(folder, then)]


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
    model = recommender.load(folder / "model")
    now = model.evaluate(pd.read_parquet(folder / "test.parquet"))
    table = pd.read_csv(folder / "scores.csv", index_col="model").reindex(index=["saerec"], columns=[*now])
    scores = pd.to_numeric(table.loc["saerec"], errors="coerce")  # nan, which is like nothing, where there is none
    wrong = [name for name in now if not np.isclose(now[name], scores[name], rtol=0, atol=TOLERANCE)]
    told = ", ".join(f"{name} {now[name]:.4f}" for name in now)
    return not wrong, told + (f"; in scores.csv: {wrong[0]} {scores[wrong[0]]:.4f}" if wrong else ", as in scores.csv")

"""The record of a run, ``run.json``: what it was made of and what it made.

Enough to go on with the run, to make it again, and to tell whether it still holds.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from saerec import recommender
from saerec.files import save_atomically, sha256_of
from saerec.readers import Dataset

PACKAGE = Path(__file__).parent
RECORD = "run.json"
LIBRARIES = ("numpy", "pandas", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
TOLERANCE = 1e-5  # stars; another machine rounds otherwise


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
        raise FileNotFoundError(f"there is no run in {folder}: {RECORD} is missing")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["parameters"]["dataset"], str):
            raise TypeError("its data set has no name")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}; saerec run --restart makes the run anew") from error
    return record


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
    """A checksum of saerec's own source."""
    sources = "".join(f"{path.name} {sha256_of(path)}\n" for path in sorted(PACKAGE.glob("*.py")))
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


def checksums(folder: Path, names: Mapping[str, object] | tuple[str, ...]) -> dict[str, str]:
    """Those of the files (and folders) that are there."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).exists()}


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
        check, holds (bool), found (text). Of the files of every notebook, whether they are as they were written; of the
        data set, whether it is the one that was read; of the model, whether its errors on the test ratings are those of
        the run's table.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no record, or it is damaged.
    """
    folder = Path(folder)
    record = read_record(folder)
    checks = []
    for notebook, work in record.get("notebooks", {}).items():
        if "writes" not in work:
            checks.append((notebook, False, "it was not finished: saerec run goes on with it"))
            continue
        now = checksums(folder, tuple(work["writes"]))
        spoiled = [
            f"{name} is missing" if name not in now else f"{name} was changed"
            for name in work["writes"]
            if now.get(name) != work["writes"][name]
        ]
        checks.append((notebook, not spoiled, "; ".join(spoiled) or f"{len(now)} files as they were written"))
    checks.append(("data", *_holds(lambda: _check_data(record, load, reads))))
    checks.append(("model", *_holds(lambda: _check_model(folder))))
    return pd.DataFrame(checks, columns=["check", "holds", "found"])


def _holds(check: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    try:
        return check()
    except (OSError, ValueError, KeyError) as error:
        return False, str(error)


def _check_data(record: dict, load: Callable[..., Dataset], reads: set[str]) -> tuple[bool, str]:
    own = {name: value for name, value in record["parameters"].items() if name in reads}
    now, then = fingerprint(load(record["parameters"]["dataset"], **own)), record["data"]
    if now == then:
        return True, f"{now['ratings']:,} ratings and their titles, the same as then"
    return False, f"{now['ratings']:,} ratings, then {then['ratings']:,}: not the same"


def _check_model(folder: Path) -> tuple[bool, str]:
    model = recommender.load(folder / "model")
    scores = pd.read_csv(folder / "scores.csv").set_index("model").loc["saerec"]
    now = model.evaluate(pd.read_parquet(folder / "test.parquet"))
    wrong = [name for name in now if name in scores and not np.isclose(now[name], scores[name], rtol=0, atol=TOLERANCE)]
    told = ", ".join(f"{name} {now[name]:.4f}" for name in now)
    return not wrong, told + (f"; in scores.csv: {wrong[0]} {scores[wrong[0]]:.4f}" if wrong else ", as in scores.csv")

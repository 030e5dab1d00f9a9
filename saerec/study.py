"""The study without notebooks, in one process or in those of ``torchrun``: same cut, split, training and scores."""

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from saerec import __version__, distributed
from saerec.datasets import OF_LOADING, lasting_name, load_dataset
from saerec.files import one_writer, remove
from saerec.movielens import movie_features
from saerec.ratings import split_ratings, top_users_and_items
from saerec.readers import Dataset
from saerec.recommender import DECLARED, FILE, Recommender
from saerec.record import (
    RECORD,
    TRAINING,
    checksums,
    difference,
    fingerprint,
    new_record,
    read_record,
    scores_of,
    surroundings,
    write_record,
)
from saerec.tables import write_table

# What stands in the notebooks for the defaults of `Recommender`.
LEFT_OUT = {"hidden_dims": [0], "n_epochs": 0, "batch_size": 0, "lr": 0.0, "weight_decay": -1.0, "patience": 0}
# What `train` leaves in a folder.
WRITES = ("model", "ratings.parquet", "movies.parquet", "test.parquet", "history.csv", "scores.csv")
LEAVES = ("checkpoints", *WRITES, "recommender.html", RECORD)


class Parts(NamedTuple):
    """What the series makes of a data set; the features of the items, one row an item, only if they are read."""

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    features: pd.DataFrame | None
    movies: pd.DataFrame


def load(dataset: str, settings: Mapping) -> Dataset:
    """A data set; both are those of `train`."""
    with distributed.first_alone():  # who reads a large release first leaves a fast copy
        return load_dataset(dataset, **{name: settings[name] for name in OF_LOADING})


def parts(data: Dataset, settings: Mapping) -> Parts:
    """Cut and split a data set as the series does, with the settings of `train`."""
    ratings = top_users_and_items(data.ratings, n_users=settings["n_users"], n_items=settings["n_items"])
    shares = {"test": settings["test_share"], "valid": settings["valid_share"]}
    train, valid, test = split_ratings(ratings, **shares, seed=settings["seed"], by=settings["split_by"])
    with_features = settings["item_features"] and settings["orientation"] != "user"
    return Parts(train, valid, test, movie_features(data.movies) if with_features else None, data.movies)


def of_recommender(settings: Mapping) -> dict[str, object]:
    """Those of the settings that `Recommender` takes, None where they leave it to the layout."""
    own = {name: settings[name] for name in DECLARED if name in settings}
    own = {name: None if value == LEFT_OUT.get(name) else value for name, value in own.items()}
    return own | {"hidden_dims": own["hidden_dims"] and tuple(own["hidden_dims"])}


def train(
    dataset: str,
    out: str | os.PathLike,
    settings: Mapping,
    *,
    resume: bool = False,
    restart: bool = False,
    progress: bool = False,
) -> pd.DataFrame | None:
    """Train on a data set and measure on its test ratings; the errors, by model: rmse, user_rmse, mae, stars.

    Writes ``model/`` (for `saerec.load`), ``ratings.parquet``, ``movies.parquet``, ``test.parquet``, ``history.csv``
    and ``scores.csv`` to a folder, as the series does, ``checkpoints/``, and a record that `verify` checks. Every
    process reads the data; the first writes, and the others get None.

    Parameters
    ----------
    dataset : str
        See `saerec.datasets.load_dataset`.
    out : path
        Made if need be.
    settings : mapping
        All that `load_dataset`, the cut, the split and the training of the series take: `saerec.series.settings`.
    resume : bool
        Go on with an earlier training in the same folder.
    restart : bool
        Remove an earlier training in the same folder, once the data are read.
    progress : bool

    Raises
    ------
    FileExistsError
        The folder holds an earlier training, and neither `resume` nor `restart` was asked for; or files that are called
        like those of one and are of none; or it is of a run of the notebooks.
    DataError, ValueError, OSError
        As of loading and of `Recommender.fit`.
    """
    out, start = Path(out), time.perf_counter()
    with one_writer(out) if distributed.rank() == 0 else nullcontext():
        if distributed.rank() == 0:
            _check_folder(out, fresh=not (resume or restart))
        data = load(dataset, settings)
        train, valid, test, features, movies = parts(data, settings)
        if distributed.rank() == 0:
            for name in LEAVES if restart else ():
                remove(out / name)
            record = _begin(out, dataset, data, settings, going_on=resume)
        del data
        recommender = Recommender(**of_recommender(settings)).fit(
            train,
            valid,
            item_features=features,
            checkpoint_dir=out / "checkpoints",
            keep=settings["keep"],
            resume=resume,
            progress=progress,
        )
        predicted = _predict(recommender, test)
        if distributed.rank():
            return None
        scores = scores_of(recommender, test, predicted)
        write_table(out / "ratings.parquet", pd.concat([train, valid, test]))
        write_table(out / "movies.parquet", movies)
        write_table(out / "test.parquet", test)
        recommender.save(out / "model")
        write_table(out / "history.csv", recommender.history.drop(columns="seconds"), index=False)
        write_table(out / "scores.csv", scores)
        record["notebooks"][TRAINING] |= {"writes": checksums(out, WRITES), "folders": ["checkpoints"]}
        record["seconds"][TRAINING] = round(time.perf_counter() - start, 1)
        write_record(out, record | {"results": pd.read_csv(out / "scores.csv").to_dict("records")})
        return scores


def _begin(folder: Path, dataset: str, data: Dataset, settings: Mapping, *, going_on: bool) -> dict:
    """Leave the record of a training that is not finished.

    Raises
    ------
    ValueError
        It is to go on from one with other settings or data, whose record stays.
    """
    made = {"saerec": __version__, **surroundings()}
    titles = {"titles": os.path.abspath(settings["titles"])} if settings["titles"] else {}
    known = dict(settings) | titles
    inputs = {"parameters": known, "reads": {}, "data": fingerprint(data), "notebook": "", "code": made["code"]}
    parameters = {"dataset": lasting_name(dataset), "out": str(folder.resolve()), **known}
    works = {TRAINING: {"inputs": inputs, "made": made}}
    record = new_record() | {"parameters": parameters, "data": inputs["data"], "notebooks": works, **made}
    if going_on and (folder / RECORD).exists() and _has_states(folder):
        before = read_record(folder)["notebooks"][TRAINING]["inputs"]
        alike = {"notebook": "", "code": "", "reads": {}}  # other code may go on
        changed = difference(before | alike, inputs | alike)
        if changed and not changed.startswith(("keep ", "device ")):
            raise ValueError(f"cannot go on with the training in {folder}: {changed}")
    write_record(folder, record)
    return record


def _check_folder(folder: Path, *, fresh: bool) -> None:
    """Raise unless the folder is free for a training, or is of one: what others only call alike is never removed."""
    trained, recorded = (folder / "model" / FILE).exists() or _has_states(folder), (folder / RECORD).exists()
    try:
        if recorded and TRAINING not in read_record(folder)["notebooks"]:
            raise FileExistsError(f"{folder} is the folder of a run of the notebooks: choose another with --out")
    except ValueError:  # a damaged record
        if fresh or not trained:
            raise
    there = [name for name in LEAVES if _holds_files(folder / name) and (name != RECORD or trained)]
    if there and not (recorded or trained):
        raise FileExistsError(
            f"{folder} holds files that are called like those of a training ({there[0]}) but are of none: choose "
            "another folder with --out"
        )
    if fresh and there:
        raise FileExistsError(
            f"{folder} holds an earlier training ({there[0]}): go on with it (--resume), remove it (--restart), or "
            "choose another folder (--out)"
        )


def _has_states(folder: Path) -> bool:
    """Whether checkpoints of ours are there, even half-written."""
    return any(folder.glob("checkpoints/**/state_[0-9][0-9][0-9][0-9]*.safetensors*"))


def _holds_files(path: Path) -> bool:
    """Of a training that was stopped in its first epoch nothing is left but folders, a lock and its record."""
    return path.is_file() or any(file.is_file() and file.name[0] != "." for file in path.rglob("*"))


def _predict(recommender: Recommender, test: pd.DataFrame) -> np.ndarray:
    """The predictions of all test ratings, some users by each process; nothing but at the first."""
    by_user = np.argsort(test["user_id"].to_numpy(), kind="stable")

    def predict(places: np.ndarray) -> np.ndarray:
        pairs = test.iloc[places]
        return recommender.predict(pairs["user_id"], pairs["item_id"])

    of_parts = list(distributed.in_turns(predict, np.array_split(by_user, distributed.size())))
    predicted = np.zeros(len(test), dtype=np.float32)
    if of_parts:
        predicted[by_user] = np.concatenate(of_parts)
    return predicted

"""Tensors in files that say whether they are whole, and a trained recommender in one. Reading runs no code.

A file is of the safetensors format: a header of names, types, shapes and text, then plain numbers. The text holds a
description, JSON, and the checksum of everything. That tells damage, not malice: who means harm can make a checksum
too, so what is read is also checked for making sense.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saerec import __version__
from saerec.baselines import BiasBaseline
from saerec.drift import UserDrift
from saerec.files import save_atomically
from saerec.intervals import LEVELS, N_FEATURES, PredictionIntervals
from saerec.ratings import CSR_PARTS, RatingMatrix, checked_csr, id_index
from saerec.validation import LATEST, shortened

FORMAT = 5  # of what is written; 4 had no chosen blend, 3 no blend, 2 no drift; 1, in two files, was never released
LONGEST_HEADER = 2**24  # bytes
LARGEST_COEFFICIENT = 50.0  # of the logarithm of an error: one of e to the 50th is none


class DamagedFileError(ValueError):
    """A file is not what saerec wrote: cut off, altered, or of something else."""


class NewerFileError(DamagedFileError):
    """A file was written by a newer saerec."""


NONSENSE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], description: dict) -> None:
    """Write tensors and a description, whole or not at all.

    Parameters
    ----------
    path : Path
    kind : str
        What the file is of, so that nothing else is taken for it.
    tensors : mapping of str to Tensor
    description : dict
        What JSON can hold; numbers of numpy become plain ones.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(
        {"kind": kind, "format": FORMAT, "saerec": __version__, **description},
        ensure_ascii=False,
        default=lambda value: value.tolist(),
    )
    metadata = {"saerec": f"{_checksum(text, tensors)} {text}"}  # one entry: several come in any order
    try:
        save_atomically(path, lambda part: save_file(tensors, part, metadata))
    except SafetensorError as error:  # its writer has no other way to say that the disk is full
        raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict]:
    """What `write_tensors` wrote.

    Raises
    ------
    FileNotFoundError
    DamagedFileError
        It is not what was written, or of another kind.
    NewerFileError
        It was written by a newer saerec.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DamagedFileError(f"{path} is no file")  # but a pipe, say, that would keep us waiting
    with path.open("rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if not 0 < length <= min(LONGEST_HEADER, path.stat().st_size - 8):
        raise DamagedFileError(f"{path} is cut off or of something else: its header cannot be {length:,} bytes long")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
        checksum, _, text = metadata["saerec"].partition(" ")
        description = json.loads(text)
        found, written_as = description["kind"], int(description["format"])
    except NONSENSE as error:  # not for want of memory: a file that does not fit is whole
        raise DamagedFileError(f"{path} is damaged or of something else ({type(error).__name__}: {error})") from error
    if written_as > FORMAT:
        by = shortened(str(description.get("saerec", "of an unknown version")))
        here = f"{__version__}, here, reads up to {FORMAT}"
        raise NewerFileError(
            f"{path} was written by a newer saerec, {by} (format {written_as}; {here}): that one, or a later, reads it"
        )
    if _checksum(text, tensors) != checksum:
        raise DamagedFileError(f"{path} is damaged: its contents do not fit its checksum")
    if found != kind:
        raise DamagedFileError(f"{path} holds a {found}, not a {kind}")
    return tensors, description


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    checksum = hashlib.sha256(text.encode())
    for name, tensor in tensors.items():
        checksum.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        checksum.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return checksum.hexdigest()


@dataclass(frozen=True)
class Trained:
    """What a fitted recommender is, apart from what can be computed of it.

    Attributes
    ----------
    parameters : dict
        Of the recommender.
    blend : float
        The weight of the first layout, which one layout alone has whole; None in files of before format 5.
    best_epochs : dict of int
    histories : dict of DataFrame
        epoch, train_rmse, valid_rmse. Both by layout.
    refits : dict of DataFrame
        The same, of the last epoch of a refit.
    ratings, seen : RatingMatrix
        With the same ids.
    baseline : BiasBaseline
    weights : dict of dict of Tensor
        The weights of each network, by layout, and of the ChoiceModel, if there is one, as "choice".
    item_features : DataFrame or None
    intervals : PredictionIntervals or None
    drift : UserDrift or None
        Of `ratings`.
    """

    parameters: dict
    blend: float | None
    best_epochs: dict[str, int]
    histories: dict[str, pd.DataFrame]
    refits: dict[str, pd.DataFrame]
    ratings: RatingMatrix
    seen: RatingMatrix
    baseline: BiasBaseline
    weights: dict[str, dict[str, Tensor]]
    item_features: pd.DataFrame | None
    intervals: PredictionIntervals | None
    drift: UserDrift | None


def write_trained(path: Path, trained: Trained) -> None:
    """Write a recommender to a file: ids, baseline and ratings included, and nothing that differs from run to run."""
    ratings, seen = trained.ratings, trained.seen
    tensors = {f"{net}.{name}": tensor for net, of_net in trained.weights.items() for name, tensor in of_net.items()}
    tensors["user_bias"] = torch.from_numpy(trained.baseline.user_bias)
    tensors["item_bias"] = torch.from_numpy(trained.baseline.item_bias)
    if trained.intervals is not None:
        tensors |= {f"intervals.{name}": torch.from_numpy(array) for name, array in vars(trained.intervals).items()}
    if trained.drift is not None:
        tensors |= {f"drift.{name}": torch.from_numpy(getattr(trained.drift, name)) for name in ("times", "errors")}
    for name, matrix in {"ratings": ratings, "seen": seen}.items():
        if name == "ratings" or matrix is not ratings:
            tensors |= {f"{name}.{part}": torch.from_numpy(getattr(matrix.csr, part)) for part in CSR_PARTS}
    for name, ids in (("user_ids", ratings.user_ids), ("item_ids", ratings.item_ids)):
        if pd.api.types.is_integer_dtype(ids.dtype):
            tensors[name] = torch.from_numpy(ids.to_numpy(copy=True))
        else:
            text = json.dumps(list(ids), ensure_ascii=False).encode()
            tensors[f"{name}.text"] = torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())
    features = trained.item_features
    if features is not None:
        aligned = features.reindex(ratings.item_ids, fill_value=0).to_numpy(dtype=np.float32)
        tensors["item_features"] = torch.from_numpy(aligned.copy(order="C"))
    description = {
        "parameters": trained.parameters,
        "blend": trained.blend,
        "best_epochs": trained.best_epochs,
        "histories": _as_records(trained.histories),
        "refits": _as_records(trained.refits),
        "mean": trained.baseline.mean,
        "drift": None if trained.drift is None else trained.drift.shrinkage,
        "features": [] if features is None else [str(name) for name in features.columns],
    }
    write_tensors(path, "recommender", tensors, description)


def read_trained(path: Path) -> Trained:
    """What `write_trained` wrote.

    Raises
    ------
    FileNotFoundError
    DamagedFileError
        As of `read_tensors`; or what is in the file does not fit together or is no number.
    """
    tensors, description = read_tensors(path, "recommender")
    try:
        return _trained(tensors, description)
    except (*NONSENSE, NotImplementedError) as error:
        missing = "lacks " if type(error) is KeyError else ""
        raise DamagedFileError(f"{path} is no recommender that saerec wrote: {missing}{error}") from error


def _trained(tensors: dict[str, Tensor], description: dict) -> Trained:
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            _require(bool(tensor.isfinite().all()), f"{name} holds NaN or infinite numbers")
    user_ids, item_ids = (_ids(name, tensors) for name in ("user_ids", "item_ids"))
    matrices = {}
    for name in ("ratings", "seen"):
        if f"{name}.data" in tensors or name == "ratings":
            parts = [tensors.pop(f"{name}.{part}") for part in CSR_PARTS]
            csr = checked_csr(name, [part.numpy() for part in parts], (len(user_ids), len(item_ids)))
            matrices[name] = RatingMatrix(csr, user_ids, item_ids)
    parameters, best_epochs = dict(description["parameters"]), dict(description["best_epochs"])
    baseline = BiasBaseline(shrinkage=parameters["shrinkage"])
    baseline.mean = float(description["mean"])
    _require(math.isfinite(baseline.mean), "the mean is no number")
    for name, ids in (("user_bias", user_ids), ("item_bias", item_ids)):
        setattr(baseline, name, _array(name, tensors.pop(name), (len(ids),)))
    item_features, columns = None, list(description["features"])
    if "item_features" in tensors:
        values = _array("item_features", tensors.pop("item_features"), (len(item_ids), len(columns)))
        item_features = pd.DataFrame(values, index=item_ids, columns=columns)
    intervals = None
    if "intervals.centres" in tensors:
        n_groups = len(tensors["intervals.centres"])
        shapes = {"coefficients": (1 + N_FEATURES,), "centres": (n_groups,), "quantiles": (n_groups, len(LEVELS))}
        intervals = PredictionIntervals()
        for name, shape in shapes.items():
            setattr(intervals, name, _array(name, tensors.pop(f"intervals.{name}"), shape, torch.float64))
        rises = [bool((np.diff(each) >= 0).all()) for each in (intervals.centres, intervals.quantiles)]
        _require(n_groups > 0 and all(rises) and intervals.quantiles.min() >= 0, "the intervals are in no order")
        _require(np.abs(intervals.coefficients).max() < LARGEST_COEFFICIENT, "the intervals are beyond all reason")
    drift = None
    if "drift.times" in tensors:
        drift = UserDrift(float(description["drift"]))
        _require(0 < drift.shrinkage < math.inf, "the drift's shrinkage is no number of ratings")
        drift.starts, n_ratings = matrices["ratings"].csr.indptr, matrices["ratings"].n_ratings
        for name, dtype in (("times", torch.int64), ("errors", torch.float32)):
            setattr(drift, name, _array(f"drift.{name}", tensors.pop(f"drift.{name}"), (n_ratings,), dtype))
        _require(bool(((drift.times > -LATEST) & (drift.times < LATEST)).all()), "drift.times are no seconds")
        first = np.isin(np.arange(1, n_ratings), drift.starts)  # of a user
        _require(bool((first | (drift.times[1:] >= drift.times[:-1])).all()), "drift.times are out of order")
    blend = description.get("blend")
    _require(blend is None or (type(blend) in (int, float) and 0 <= blend <= 1), "the blend is no share")
    histories, refits = map(_from_records, (description["histories"], description.get("refits", {})))
    weights: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        _require(tensor.dtype == torch.float32, f"{name} is of type {tensor.dtype}")
        net, _, rest = name.partition(".")
        weights.setdefault(net, {})[rest] = tensor
    ratings = matrices["ratings"]
    low, high = ratings.scale
    slack = 1e-6 * max(abs(low), abs(high))  # of rounding
    _require(low - slack <= baseline.mean <= high + slack, "the mean is none of its ratings")
    seen = matrices.get("seen", ratings)
    rest = (ratings, seen, baseline, weights, item_features, intervals, drift)
    return Trained(parameters, blend, best_epochs, histories, refits, *rest)


def _as_records(histories: Mapping[str, pd.DataFrame]) -> dict[str, list[dict]]:
    """Histories as JSON can hold them, without what differs from run to run."""
    plain = {
        name: history.drop(columns="seconds", errors="ignore").astype(object) for name, history in histories.items()
    }
    return {name: history.where(history.notna(), None).to_dict("records") for name, history in plain.items()}


def _from_records(records: dict[str, list[dict]]) -> dict[str, pd.DataFrame]:
    columns = {"epoch": int, "train_rmse": float, "valid_rmse": float}
    return {name: pd.DataFrame(rows).astype(columns)[[*columns]] for name, rows in dict(records).items()}


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _array(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> np.ndarray:
    """The numbers of a tensor that has this shape and type."""
    _require(
        tensor.dtype == dtype and tuple(tensor.shape) == shape,
        f"{name} is {list(tensor.shape)} of {tensor.dtype}, not {list(shape)} of {dtype}",
    )
    return tensor.numpy()


def _ids(name: str, tensors: dict[str, Tensor]) -> pd.Index:
    """The ids of that name, taken out of the tensors."""
    if f"{name}.text" in tensors:
        return id_index(name, json.loads(tensors.pop(f"{name}.text").numpy().tobytes()), (str,))
    ids = tensors.pop(name).numpy()
    _require(ids.ndim == 1 and np.issubdtype(ids.dtype, np.integer), f"{name} is of type {ids.dtype}")
    return id_index(name, ids.tolist()).astype(ids.dtype)


def fits(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names, shapes and types of a network's."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in expected.items()
    }

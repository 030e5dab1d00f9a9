"""Gives the loaders files that were spoiled at random, and looks for errors that are not ours.

python tests/fuzz.py --minutes 10

Bytes are changed, cut out, doubled and moved: of models, checkpoints, ratings as CSV and Parquet, a matrix in files and
the record of a run; and, with a checksum to match, numbers and words of the description of a model or a checkpoint and
the shapes, types and values of its tensors, or what the record says. A loader may refuse a file with its own error. It
may also take it, if it then works.
"""

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

import saerec
from saerec.files import sha256_of
from saerec.recommender import FILE
from saerec.record import new_record, read_record, surroundings, verify, write_record
from saerec.series import OF_LOADING, load_recorded
from saerec.storage import DamagedFileError, read_tensors, write_tensors

VALUES = [None, True, -1, 0, 1, 2**70, 0.5, float("nan"), float("inf"), "", "x", "item", "../..", [], [1], {}, {"a": 1}]


def spoil_bytes(path: Path, draw: random.Random) -> None:
    """Change a file somewhere."""
    blob = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 3, 20))):
        # Half of the time near the start: there is the header.
        at = draw.randrange(min(len(blob), 2000) if draw.random() < 0.5 else len(blob)) if blob else 0
        length = draw.choice((1, 1, 8, 100))
        match draw.randrange(5):
            case 0:
                blob[at : at + length] = draw.randbytes(length)
            case 1:
                del blob[at : at + length]
            case 2:
                blob[at:at] = blob[at : at + length]
            case 3:
                del blob[at:]
            case 4 if blob:
                blob[at] ^= 1 << draw.randrange(8)
    path.write_bytes(blob)


def spoil_record(path: Path, draw: random.Random) -> None:
    """Change what the record of a run says."""
    record = json.loads(path.read_text())
    for _ in range(draw.choice((1, 1, 2, 5))):
        spoil_description(record, draw)
    path.write_text(json.dumps(record))


def spoil_matrix(path: Path, draw: random.Random) -> None:
    """Change a file of a matrix, and make a checksum for it."""
    name = draw.choice(("data.npy", "indices.npy", "indptr.npy", "user_ids.json", "item_ids.json"))
    spoil_bytes(path.with_name(name), draw)
    manifest = json.loads(path.read_text())
    manifest["files"][name] = sha256_of(path.with_name(name))
    path.write_text(json.dumps(manifest))


def spoil_contents(path: Path, draw: random.Random) -> None:
    """Change what is in a model or a checkpoint, and make a checksum for it."""
    kind = "recommender" if path.name == FILE else "training"
    tensors, description = read_tensors(path, kind)
    for _ in range(draw.choice((1, 1, 2, 5))):
        if draw.random() < 0.5:
            spoil_description(description, draw)
            continue
        name = draw.choice(sorted(tensors))
        tensor = tensors[name]
        match draw.randrange(7):
            case 0:
                del tensors[name]
                if not tensors:
                    break
            case 1:
                tensors[name] = tensor.to(draw.choice((torch.float64, torch.int8, torch.bool, torch.float16)))
            case 2:
                tensors[name] = tensor.reshape(-1)[: draw.randrange(tensor.numel() + 1)].clone()
            case 3:
                tensors[name] = tensor[None].clone()
            case 4:
                tensors[draw.choice(sorted(tensors))] = tensor.clone()
            case 5 if tensor.numel():
                tensor.view(-1)[draw.randrange(tensor.numel())] = draw.choice((0, 1, 100))
            case 6:
                tensors[draw.choice(("", "x", "item.", "seen.data", "user_ids", "choice.hidden.0.weight"))] = (
                    tensor.clone()
                )
    write_tensors(path, kind, tensors, description)


def spoil_description(value: object, draw: random.Random) -> None:
    """Change, somewhere inside, a dict or a list."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = draw.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and draw.random() < 0.7:
        spoil_description(value[key], draw)
    elif isinstance(value, dict) and draw.random() < 0.3:
        del value[key]
    else:
        value[key] = copy.deepcopy(draw.choice(VALUES))


def use_model(path: Path) -> None:
    """Load a recommender and ask it for lists."""
    recommender = saerec.load(path.parent)
    recommender.recommend(recommender.user_ids[:2], k=1)


def use_ratings(path: Path) -> None:
    """Read ratings and make a matrix of them."""
    saerec.RatingMatrix.from_frame(saerec.read_ratings(path, timestamp="timestamp"))


def use_matrix(path: Path) -> None:
    """Open a matrix in files and read all of it."""
    matrix = saerec.RatingMatrix.open(path.parent)
    saerec.BiasBaseline().fit(matrix)
    matrix.to_frame()


def use_record(path: Path) -> None:
    """Read the record of a run and verify what there is of it."""
    read_record(path.parent)
    verify(path.parent, load_recorded, OF_LOADING)


def use_checkpoint(path: Path) -> None:
    """Go on with a training; a checkpoint that is refused is named in a warning, and training begins anew."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(path.parent, resume=True)
    if any(path.name in str(each.message) for each in said):
        raise DamagedFileError("it was passed over")


def train(folder: Path, **options) -> None:
    """An epoch of the ratings that lie beside the checkpoints."""
    matrix = saerec.RatingMatrix.open(folder.parent / "matrix")
    torch.manual_seed(0)
    saerec.fit(saerec.SAE(matrix.n_items, (3,)), matrix, n_epochs=2, stop_after=1, checkpoint_dir=folder, **options)


def fuzz(frame: pd.DataFrame, folder: Path, *, seconds: float, n_files: int, seed: int) -> Counter:
    """How often which loader did what, until the time is over or so many files were tried.

    Raises
    ------
    AssertionError
        A loader failed with an error that is not ours; the file is kept as ``failed`` in the folder.
    """
    draw = random.Random(seed)
    settings = {"hidden_dims": (3,), "n_epochs": 1, "refit": False}
    model, table, parquet = folder / FILE, folder / "ratings.csv", folder / "ratings.parquet"
    saerec.Recommender(**settings).fit(frame.iloc[:-20], frame.iloc[-20:]).save(folder)
    frame.to_csv(table, index=False)
    frame.to_parquet(parquet, index=False)
    saerec.RatingMatrix.from_frame(frame).save(folder / "matrix")
    matrix = folder / "matrix" / "matrix.json"
    train(folder / "training")
    checkpoint = folder / "training" / "state_0001.safetensors"
    record = folder / "run.json"
    work = {
        "inputs": {"parameters": {"seed": 0}, "reads": {"ratings.csv": "x"}, "data": None, "notebook": "", "code": ""}
    }
    notebooks = {"notebooks": {"02_training": work | {"writes": {"ratings.csv": sha256_of(table)}}}}
    data = {"ratings": 1, "users": 1, "items": 1, "sha256": "", "sha256 of titles": ""}
    parameters = {"dataset": str(table), "user": "user_id", "out": str(folder)}
    write_record(folder, new_record() | surroundings() | notebooks | {"parameters": parameters, "data": data})
    targets: list[tuple[Path, Callable, Callable, type | tuple]] = [
        (model, spoil_bytes, use_model, DamagedFileError),
        (model, spoil_contents, use_model, DamagedFileError),
        (checkpoint, spoil_bytes, use_checkpoint, (DamagedFileError, ValueError)),
        (checkpoint, spoil_contents, use_checkpoint, (DamagedFileError, ValueError)),
        (table, spoil_bytes, use_ratings, saerec.DataError),
        (parquet, spoil_bytes, use_ratings, saerec.DataError),
        (matrix, spoil_bytes, use_matrix, saerec.DataError),
        (matrix, spoil_matrix, use_matrix, saerec.DataError),
        (record, spoil_record, use_record, ValueError),
    ]
    kept = {path.parent: folder.with_name(f"{folder.name} {n}") for n, (path, *_) in enumerate(targets)}
    kept = {here: shutil.copytree(here, there) for here, there in kept.items() if here != folder}
    whole = {path: path.read_bytes() for path, *_ in targets}
    counts, end = Counter(), time.monotonic() + seconds
    while time.monotonic() < end and counts.total() < n_files:
        path, spoil, use, ours = draw.choice(targets)
        if path.parent in kept:
            shutil.rmtree(path.parent)
            shutil.copytree(kept[path.parent], path.parent)
        path.write_bytes(whole[path])
        spoil(path, draw)
        try:
            use(path)
            counts[f"{use.__name__} after {spoil.__name__}: taken"] += 1
        except ours:
            counts[f"{use.__name__} after {spoil.__name__}: refused"] += 1
        except Exception as error:
            path.rename(folder / "failed")
            raise AssertionError(f"{use.__name__} after {spoil.__name__}:\n{traceback.format_exc()}") from error
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    frame = saerec.top_users_and_items(saerec.load_movielens().ratings, n_users=30, n_items=40)
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(frame, Path(folder), seconds=60 * options.minutes, n_files=10**9, seed=options.seed)
    for what, count in sorted(counts.items()):
        print(f"{count:9,}  {what}")


if __name__ == "__main__":
    sys.exit(main())

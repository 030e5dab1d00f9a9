"""Files that are damaged, hostile or of something else end in our error, which says what is wrong with which file."""

import json
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import saerec
from saerec.recommender import FILE
from saerec.storage import FORMAT, DamagedFileError, read_tensors, write_tensors

FIXTURES = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def blob(parts, tmp_path_factory) -> bytes:
    """A small recommender with all that one can have: text ids, features, unseen ratings, a ChoiceModel, a drift."""
    folder = tmp_path_factory.mktemp("whole")
    train, valid = (part.assign(user_id="u" + part["user_id"].astype(str)) for part in parts[:2])
    features = pd.DataFrame({"x": 0.5}, index=train["item_id"].unique())
    rec = saerec.Recommender(hidden_dims=(4,), n_epochs=2, refit=False)
    rec.fit(train, valid, item_features=features)
    rec.drift = rec._drift(train, train["timestamp"].to_numpy())  # validation finds none in made ratings
    rec.save(folder)
    return (folder / FILE).read_bytes()


@pytest.fixture
def file(blob, tmp_path) -> Path:
    """A copy, to spoil."""
    path = tmp_path / FILE
    path.write_bytes(blob)
    return path


def header_of(file: Path) -> tuple[dict, bytes]:
    """The JSON that a safetensors file begins with, and what comes after it."""
    blob = file.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    return json.loads(blob[8 : 8 + length]), blob[8 + length :]


def with_header(file: Path, header: object, rest: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def edit(change):
    """Change tensors and description, and make a checksum for them, as somebody would who means harm."""

    def spoil(file: Path) -> None:
        tensors, description = read_tensors(file, "recommender")
        change(tensors, description)
        description.pop("kind"), description.pop("format")
        write_tensors(file, "recommender", tensors, description)

    return spoil


def put(name: str, value):
    """A tensor instead of another; of the other, if `value` is callable."""
    return edit(lambda t, d: t.__setitem__(name, value(t[name]) if callable(value) else value))


def describe(name: str, value):
    """Something else in the description."""
    return edit(lambda t, d: d.__setitem__(name, value(d[name]) if callable(value) else value))


def parameter(name: str, value):
    """Another parameter."""
    return edit(lambda t, d: d["parameters"].__setitem__(name, value))


def without(name: str):
    return edit(lambda t, d: t.pop(name) if name in t else d.pop(name))


def at(position: int, value):
    """A tensor with another number at a position."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[position] = value
        return tensor

    return change


def swap_ids(tensors, description):
    tensors["user_ids.text"], tensors["item_ids"] = tensors["item_ids"], tensors["user_ids.text"]


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps(Evil()))


def zipped_pickle(file: Path) -> None:
    torch.save({"model": Evil()}, file)


def claim(file: Path, **changes) -> None:
    """Another entry in the header for the first tensor."""
    header, rest = header_of(file)
    header[next(name for name in header if name != "__metadata__")] |= changes
    with_header(file, header, rest)


def described(file: Path, change) -> None:
    """Another text in the header; the checksum stands before it."""
    header, rest = header_of(file)
    header["__metadata__"]["saerec"] = change(header["__metadata__"]["saerec"])
    with_header(file, header, rest)


def flipped(file: Path) -> None:
    blob = bytearray(file.read_bytes())
    blob[-1000] ^= 1
    file.write_bytes(bytes(blob))


CUT_OFF = "cut off or of something else"
DAMAGED = "damaged or of something else"
CHECKSUM = "do not fit its checksum"
SPOILED = {
    "empty": (lambda file: file.write_bytes(b""), CUT_OFF),
    "seven bytes": (lambda file: file.write_bytes(file.read_bytes()[:7]), CUT_OFF),
    "cut off in the header": (lambda file: file.write_bytes(file.read_bytes()[:100]), CUT_OFF),
    "cut off at the end": (lambda file: file.write_bytes(file.read_bytes()[:-1]), DAMAGED),
    "something after the end": (lambda file: file.write_bytes(file.read_bytes() + b"\0"), DAMAGED),
    "a bit flipped": (flipped, CHECKSUM),
    "text": (lambda file: file.write_text("hello, I am a model"), CUT_OFF),
    "a pickle": (pickled, CUT_OFF),
    "a pickle in a zip": (zipped_pickle, CUT_OFF),
    "a giant header": (lambda file: file.write_bytes(struct.pack("<Q", 2**62) + b"{}"), CUT_OFF),
    "a header of zeros": (lambda file: with_header(file, "\0" * 100, b""), DAMAGED),
    "a header that is a list": (lambda file: with_header(file, [], b""), DAMAGED),
    "deep brackets": (lambda file: with_header(file, "[" * 100_000, b""), DAMAGED),
    "tensors that overlap": (lambda file: claim(file, data_offsets=[0, 8]), DAMAGED),
    "a tensor beyond the end": (lambda file: claim(file, data_offsets=[0, 2**40]), DAMAGED),
    "a tensor larger than memory": (lambda file: claim(file, shape=[2**40, 2**20]), DAMAGED),
    "an unknown type": (lambda file: claim(file, dtype="F33"), DAMAGED),
    "of another program": (lambda file: save_file(load_file(file), file), DAMAGED),
    "no checksum": (lambda file: described(file, lambda text: text[64:]), CHECKSUM),
    "another description": (
        lambda file: described(file, lambda text: text[:65] + '{"kind": "recommender", "format": 2}'),
        CHECKSUM,
    ),
    "no description": (lambda file: described(file, lambda text: ""), DAMAGED),
    "a description of deep brackets": (lambda file: described(file, lambda text: "0 " + "[" * 100_000), DAMAGED),
    "a format that is text": (
        lambda file: described(file, lambda text: '0 {"kind": "recommender", "format": "x"}'),
        DAMAGED,
    ),
    "a newer format": (
        lambda file: write_tensors(file, "recommender", {}, {"format": 99}),
        rf"newer saerec, {saerec.__version__} \(format 99; {saerec.__version__}, here, reads up to {FORMAT}\)",
    ),
    "a newer format of a version": (
        lambda file: write_tensors(file, "recommender", {}, {"format": 99, "saerec": "7.1"}),
        r"newer saerec, 7\.1 \(format 99",
    ),
    "a pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "is no file"),
    "a checkpoint": (lambda file: write_tensors(file, "training", {}, {}), "holds a training, not a recommender"),
    "nothing inside": (lambda file: write_tensors(file, "recommender", {}, {}), "lacks 'user_ids'"),
    "no weights": (without("item.output.weight"), "weights of 'item' are not those"),
    "no ratings": (without("ratings.data"), "lacks 'ratings.data'"),
    "no choice model": (edit(lambda t, d: [t.pop(name) for name in list(t) if "choice" in name]), "'choice'"),
    "no parameters": (without("parameters"), "lacks 'parameters'"),
    "weights that are NaN": (put("item.hidden.0.weight", at(3, np.nan)), "NaN or infinite"),
    "an infinite bias": (put("user_bias", at(0, np.inf)), "user_bias holds NaN or infinite"),
    "an infinite mean": (describe("mean", np.inf), "the mean is no number"),
    "weights of whole numbers": (put("item.output.bias", lambda t: t.int()), "of type torch.int32"),
    "weights of another shape": (put("item.output.weight", lambda t: t.T.contiguous()), "not those of its parameters"),
    "users and items swapped": (edit(swap_ids), "no recommender that saerec wrote"),
    "an id twice": (put("item_ids", at(0, 22)), "item_ids holds an id twice"),
    "ids that are floats": (put("item_ids", lambda t: t.double()), "item_ids is of type float64"),
    "ids that are no text": (put("user_ids.text", torch.frombuffer(bytearray(b"[1]"), dtype=torch.uint8)), "user_ids"),
    "ids that are no UTF-8": (put("user_ids.text", torch.full((9,), 255, dtype=torch.uint8)), "no recommender"),
    "an item outside": (put("ratings.indices", at(0, 2**30)), "points outside"),
    "an item below zero": (put("ratings.indices", at(0, -1)), "points outside"),
    "an item twice": (put("ratings.indices", lambda t: at(0, t[1])(t)), "twice or out of order"),
    "rows that go backwards": (put("ratings.indptr", at(1, 10**6)), "does not divide"),
    "ratings of text": (put("ratings.data", lambda t: t.byte()), "no float32 numbers"),
    "indices in two dimensions": (put("ratings.indices", lambda t: t[None]), "no list of numbers"),
    "biases of somebody else": (put("user_bias", lambda t: t[:-1]), "user_bias is"),
    "features without names": (describe("features", []), "item_features is"),
    "intervals of another shape": (put("intervals.quantiles", lambda t: t[:, :-1]), "quantiles is"),
    "intervals of no group": (
        edit(
            lambda t, d: t.update(
                {f"intervals.{name}": t[f"intervals.{name}"][:0] for name in ("centres", "quantiles")}
            )
        ),
        "the intervals are in no order",
    ),
    "negative intervals": (put("intervals.quantiles", lambda t: t - 5), "the intervals are in no order"),
    "intervals that shrink": (put("intervals.quantiles", lambda t: t.flip(1)), "the intervals are in no order"),
    "boundless intervals": (put("intervals.coefficients", at(0, 1e300)), "beyond all reason"),
    "weights that add up to infinity": (
        put("item.output.weight", lambda t: torch.full_like(t, 3e38)),
        "what it predicts is no number",
    ),
    "intervals in halves": (without("intervals.coefficients"), "lacks 'intervals.coefficients'"),
    "moments out of order": (put("drift.times", at(0, 10**9)), "drift.times are out of order"),
    "moments beyond time": (put("drift.times", lambda t: at(-1, -(2**63))(t)), "drift.times are no seconds"),
    "moments of somebody else": (put("drift.times", lambda t: t[:-1]), "drift.times is"),
    "moments that are floats": (put("drift.times", lambda t: t.float()), "of torch.float32, not"),
    "moments without errors": (without("drift.errors"), "lacks 'drift.errors'"),
    "a drift that is not shrunk": (describe("drift", 0.0), "the drift's shrinkage"),
    "an unknown parameter": (parameter("exec", "rm"), "its parameters are"),
    "a parameter of another type": (parameter("mask_weight", "2"), "mask_weight must be a number, not '2'"),
    "a part of a seed": (parameter("seed", 0.5), "seed must be a whole number, not 0.5"),
    "a batch and a half": (parameter("batch_size", 2.5), "batch_size must be a whole number, not 2.5"),
    "a layer of true units": (parameter("hidden_dims", [True]), "hidden_dims must be a tuple or list of whole numbers"),
    **{
        f"{name} of {value}": (parameter(name, value), f"{name} must be .*, not {re.escape(str(value))}")
        for name, value in [
            ("ridge", 0),
            ("ridge", -1.0),
            ("seed", -1),
            ("seed", 2**70),
            ("dropout", 1.0),
            ("input_dropout", -0.1),
            ("shrinkage", -1),
            ("mask_weight", 1e300),
            ("n_epochs", 0),
            ("batch_size", 0),
            ("lr", 0.0),
            ("weight_decay", -1),
            ("patience", 0),
        ]
    },
    "a blend beyond one": (describe("blend", 1.5), "the blend is no share"),
    "a blend that is text": (describe("blend", "0.5"), "the blend is no share"),
    "a mean beyond the ratings": (describe("mean", 1e308), "the mean is none of its ratings"),
    "an orientation of ours that is not its own": (parameter("orientation", "both"), "its layouts are not those"),
    "an orientation that is a path": (parameter("orientation", "../../etc"), "orientation must be one of"),
    "a layer larger than memory": (parameter("hidden_dims", [2**40]), "not those of its parameters"),
    "a layer of no units": (parameter("hidden_dims", [0]), "whole numbers of at least 1"),
    "ids of deep brackets": (
        put("user_ids.text", torch.frombuffer(bytearray(b"[" * 200_000), dtype=torch.uint8)),
        "no recommender that saerec wrote",
    ),
    "two layers larger than memory": (parameter("hidden_dims", [2**40, 2**40]), "no recommender that saerec wrote"),
    "a million layers": (parameter("hidden_dims", [1] * 10**6), "1,000,000 hidden layers"),
    "a history without errors": (describe("histories", {"item": [{"epoch": 1}]}), "train_rmse"),
    "an epoch that is text": (describe("best_epochs", {"item": "3"}), "its layouts are not those"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_spoiled_is_an_error_of_ours_that_names_the_file(file, what, tmp_path, monkeypatch):
    spoil, message = SPOILED[what]
    monkeypatch.chdir(tmp_path)
    spoil(file)
    with pytest.raises(DamagedFileError, match=message) as error:
        saerec.load(tmp_path)
    assert str(file) in str(error.value)
    assert not Path("executed").exists()


def test_the_whole_one_loads(file):
    rec = saerec.load(file.parent)
    assert rec.user_ids[0].startswith("u") and rec.item_features is not None and rec.seen is not rec.ratings
    assert (rec.recommend(k=2)["rank"].to_numpy() == np.tile([1, 2], len(rec.user_ids))).all()


def test_a_folder_instead_of_a_file(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(OSError, match=FILE):
        saerec.load(tmp_path)


@pytest.mark.parametrize("folder", sorted(FIXTURES.glob("format_*")), ids=lambda folder: folder.name)
def test_what_was_written_before_still_loads(folder):
    """Each was written by the first saerec with its format: all parts, text ids, both layouts."""
    rec = saerec.load(folder)
    expected = pd.read_csv(folder / "top2.csv")
    found = rec.recommend(k=2, because=False)
    assert found[["user_id", "rank", "item_id"]].equals(
        expected[["user_id", "rank", "item_id"]].astype(found.dtypes[:3])
    )
    for name in ("score", "error", "chance"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert (rec.drift is None) == (folder.name == "format_2")
    assert rec.shares[0] == pytest.approx({"format_4": 0.3, "format_5": 0.39}.get(folder.name, 0.5), abs=0.005)
    if rec.drift:
        asked = pd.read_csv(folder / "told_when.csv")
        told = rec.predict(asked["user_id"], asked["item_id"], asked["timestamp"])
        np.testing.assert_allclose(told, asked["predicted"], atol=1e-5)


def test_todays_format_is_kept_for_tests():
    assert (FIXTURES / f"format_{FORMAT}").is_dir()

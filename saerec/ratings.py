"""Ratings as a sparse matrix with ids, the study's cut, and the splits. Knows no torch and no MovieLens."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd
from scipy import sparse

from saerec.files import save_atomically, sha256_of
from saerec.validation import (
    DataError,
    IdTypeError,
    MissingIdError,
    NothingLeftError,
    UnknownIdError,
    check_columns,
    check_ratings,
    duplicate_error,
    kind_of_ids,
    seconds_of,
)

BLOCK = 2**22  # ratings that are worked on at a time
CSR_PARTS = ("data", "indices", "indptr")
# What numpy and json raise of files that are nonsense.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError, OverflowError)
UNREADABLE += (SyntaxError, TokenError)
FORMAT = 1  # of a matrix in files
MANIFEST = "matrix.json"  # of a matrix in files: which they are, and their checksums


@dataclass(frozen=True, eq=False)
class RatingMatrix:
    """A sparse users × items matrix of ratings that knows whose row and what column is which.

    An entry is observed because it is stored, not because it differs from zero, so 0 and negative ratings are ratings.

    Attributes
    ----------
    csr : scipy.sparse.csr_array of shape (U, I), float32, stars
        The ratings, in canonical form; explicit zeros are observed zeros.
    user_ids, item_ids : pandas.Index of length U and I
        The caller's ids by position.
    """

    csr: sparse.csr_array
    user_ids: pd.Index
    item_ids: pd.Index

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, user_ids: Iterable | None = None, item_ids: Iterable | None = None
    ) -> "RatingMatrix":
        """The matrix of a frame with the columns user_id, item_id and rating.

        Parameters
        ----------
        frame : DataFrame
            One row a rating, in any order; the order of its rows does not change the result.
        user_ids, item_ids : iterable of ids, optional
            The ids by position. Left out: those of the frame, sorted.

        Raises
        ------
        DataError, TypeError
            What `check_ratings` finds wrong, or a (user, item) pair that stands twice.
        UnknownIdError
            The frame holds an id that `user_ids` or `item_ids` lacks.
        """
        if user_ids is None or item_ids is None or len(frame):
            check_ratings(frame)
        rows, user_ids = _positions(frame["user_id"], user_ids)
        cols, item_ids = _positions(frame["item_id"], item_ids)
        for name, positions in (("user_id", rows), ("item_id", cols)):
            if (positions < 0).any():
                unknown = frame.loc[positions < 0, name].tolist()
                raise UnknownIdError(
                    f"ratings whose {name} the given ids lack: {len(unknown):,}, the first has {unknown[0]!r}"
                )
        values = frame["rating"].to_numpy(dtype=np.float32)
        csr = sparse.coo_array((values, (rows, cols)), shape=(len(user_ids), len(item_ids))).tocsr()
        if csr.nnz < len(frame):
            raise duplicate_error(frame, frame.duplicated(["user_id", "item_id"]).to_numpy())
        return cls(csr, user_ids, item_ids)

    @property
    def shape(self) -> tuple[int, int]:
        """(U, I), the numbers of users and items."""
        return self.csr.shape

    @property
    def n_users(self) -> int:
        """U, the number of users."""
        return self.shape[0]

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return self.shape[1]

    @property
    def n_ratings(self) -> int:
        """The number of observed entries."""
        return self.csr.nnz

    @property
    def density(self) -> float:
        """The observed share of all U × I cells."""
        return self.n_ratings / (self.n_users * self.n_items)

    @cached_property
    def user_counts(self) -> np.ndarray:
        """Ratings by each user: ndarray of shape (U,), int64."""
        return np.diff(self.csr.indptr).astype(np.int64)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """Ratings of each item: ndarray of shape (I,), int64."""
        counts = np.zeros(self.n_items, dtype=np.int64)
        for start in range(0, self.n_ratings, BLOCK):  # numpy would copy all indices to count them
            counts += np.bincount(self.csr.indices[start : start + BLOCK], minlength=self.n_items)
        return counts

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest observed rating, stars."""
        return float(self.csr.data.min()), float(self.csr.data.max())

    @property
    def unit(self) -> float:
        """The step that divides the scale as a star divides 0.5 to 5: (highest - lowest) / 4.5; 1 if all are equal."""
        lowest, highest = self.scale
        return (highest - lowest) / 4.5 or 1.0

    @property
    def liked_from(self) -> float:
        """The lowest rating that counts as liked, seven ninths up the scale, stars: 4 of 0.5 to 5."""
        lowest, highest = self.scale
        return lowest + (highest - lowest) * 7 / 9

    def positions(self, user_ids: Iterable, item_ids: Iterable) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of ids, of one or several: two ndarrays, int64, -1 where an id is unknown.

        Raises
        ------
        MissingIdError
            One is missing.
        IdTypeError
            The ids are of another type than the matrix's, such as text and numbers.
        """
        found = []
        for name, known, ids in (("user_id", self.user_ids, user_ids), ("item_id", self.item_ids, item_ids)):
            ids = pd.Index([ids] if np.isscalar(ids) else ids)
            if ids.hasnans:
                raise MissingIdError(f"a {name} is missing")
            if len(ids) and kind_of_ids(ids) != kind_of_ids(known):
                raise IdTypeError(
                    f"the {name}s are of type {kind_of_ids(ids)}, those of the data {kind_of_ids(known)}: convert them"
                )
            found.append(known.get_indexer(ids))
        return tuple(found)

    @property
    def T(self) -> "RatingMatrix":
        """The same ratings with a row for every item: users and items, and their ids, change places."""
        return RatingMatrix(self.csr.T.tocsr(), self.item_ids, self.user_ids)

    def coordinates(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and ratings of the observed entries, in row order: three ndarrays of shape (n_ratings,).

        Of the rows from `start` to before `stop`, if they are given.
        """
        stop = self.n_users if stop is None else stop
        rows = np.repeat(np.arange(start, stop), self.user_counts[start:stop])
        here = slice(self.csr.indptr[start], self.csr.indptr[stop])
        return rows, self.csr.indices[here], self.csr.data[here]

    def blocks(self) -> list[tuple[int, int]]:
        """Starts and stops of successive rows that hold about `BLOCK` ratings together: what is worked on at a time."""
        n_blocks = max(1, -(-self.n_ratings // BLOCK))
        ends = np.searchsorted(self.csr.indptr, np.arange(1, n_blocks) * BLOCK)
        return list(pairwise(np.unique([0, *ends, self.n_users]).tolist()))

    def save(self, folder: str | os.PathLike) -> None:
        """Write ``data.npy``, ``indices.npy``, ``indptr.npy`` and the ids to `folder`, which is made if need be.

        Last ``matrix.json``, without which the others are of a `save` that was interrupted.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        contents = {f"{name}.npy": partial(_save_array, array=getattr(self.csr, name)) for name in CSR_PARTS}
        for name, ids in (("user_ids.json", self.user_ids), ("item_ids.json", self.item_ids)):
            contents[name] = partial(_save_json, value=ids.tolist())
        for name, save in contents.items():
            save_atomically(folder / name, save)
        manifest = {"format": FORMAT, "files": {name: sha256_of(folder / name) for name in contents}}
        save_atomically(folder / MANIFEST, partial(_save_json, value=manifest))

    @classmethod
    def open(cls, folder: str | os.PathLike, *, mmap: bool = True) -> "RatingMatrix":
        """What `save` wrote.

        Parameters
        ----------
        folder : path
        mmap : bool
            Whether the ratings stay on disk: the operating system reads what is asked for, and forgets it when it needs
            the room, so there can be more of them than fit into memory.

        Raises
        ------
        FileNotFoundError
        DataError
            A file is not as it was written, was written by a newer saerec, or they make no matrix. All are read to see
            it.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(
                f"no matrix in {folder}: {MANIFEST}, which RatingMatrix.save writes last, is missing"
            )
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            if manifest["format"] > FORMAT:
                raise ValueError(
                    f"its format, {manifest['format']}, is of a newer saerec, and here {FORMAT}: upgrade it"
                )
            files = dict(manifest["files"])
            names = [*(f"{part}.npy" for part in CSR_PARTS), "user_ids.json", "item_ids.json"]
            changed = [name for name in names if files.get(name) != sha256_of(folder / name)]
            if changed:
                raise ValueError(f"{changed[0]} is not as it was written")
            options = {"mmap_mode": "r" if mmap else None, "allow_pickle": False}
            parts = [np.load(folder / name, **options) for name in names[:3]]
            ids = [id_index(name, json.loads((folder / name).read_text("utf-8"))) for name in names[3:]]
            return cls(checked_csr("the matrix", parts, tuple(map(len, ids))), *ids)
        except UNREADABLE as error:
            raise DataError(f"{folder} holds no ratings that saerec wrote: {error}") from error

    def dense(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A few rows written out, (B, I): ratings, float32, 0 where unobserved, and which are observed, bool."""
        batch = self.csr[rows]
        observed = sparse.csr_array((np.ones(batch.nnz, dtype=bool), batch.indices, batch.indptr), shape=batch.shape)
        return batch.toarray(), observed.toarray()

    def to_frame(self) -> pd.DataFrame:
        """The ratings as a frame with user_id, item_id and rating (float32), sorted by user and item."""
        rows, cols, values = self.coordinates()
        return pd.DataFrame({"user_id": self.user_ids[rows], "item_id": self.item_ids[cols], "rating": values})

    def __repr__(self) -> str:
        shape = f"{self.n_users:,} users × {self.n_items:,} items"
        return f"RatingMatrix({shape}, {self.n_ratings:,} ratings, {self.density:.2%} observed)"


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, numpy would add .npy
        np.save(file, array)


def _save_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def checked_csr(name: str, parts: Iterable[np.ndarray], shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix of parts from a file, in the order of `CSR_PARTS`: canonical and within its shape, or a ValueError.

    Arrays larger than memory are read bit by bit.
    """
    data, indices, indptr = parts
    for part, array in zip(CSR_PARTS, (data, indices, indptr)):
        _require(array.ndim == 1, f"{name}.{part} is no list of numbers")
    _require(data.dtype == np.float32 and len(data) > 0, f"{name}.data holds no float32 numbers")
    _require(bool(np.isfinite([data.min(), data.max()]).all()), f"{name}.data holds NaN or infinite numbers")
    for part, array in (("indices", indices), ("indptr", indptr)):
        _require(array.dtype in (np.int32, np.int64), f"{name}.{part} is of type {array.dtype}")
    _require(
        len(indptr) == shape[0] + 1
        and indptr[0] == 0
        and indptr[-1] == len(data) == len(indices)
        and bool((np.diff(indptr) >= 0).all()),
        f"{name}.indptr does not divide {len(data):,} ratings among {shape[0]:,} users",
    )
    _require(indices.min() >= 0 and indices.max() < shape[1], f"{name}.indices points outside {shape[1]:,} items")
    csr = sparse.csr_array((data, indices, indptr), shape=shape)
    _require(csr.has_canonical_format, f"{name}.indices has items twice or out of order")
    return csr


def id_index(name: str, ids: object, kinds: tuple[type, ...] = (str, int)) -> pd.Index:
    """Ids from a file, a list of text or of whole numbers, each once; a ValueError if they are something else."""
    fine = isinstance(ids, list) and any(all(type(each) is kind for each in ids) for kind in kinds)
    _require(
        fine, f"{name} is no list of {' or of '.join({str: 'text', int: 'whole numbers'}[kind] for kind in kinds)}"
    )
    index = pd.Index(ids)
    _require(len(index) > 0 and index.is_unique, f"{name} holds an id twice, or none")
    return index


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _positions(ids: pd.Series, known: Iterable | None) -> tuple[np.ndarray, pd.Index]:
    """Where each of `ids` stands in `known`, or in their own sorted uniques; and those."""
    if known is None:
        positions, known = pd.factorize(
            np.asarray(ids) if isinstance(ids.dtype, pd.CategoricalDtype) else ids, sort=True
        )
        return positions, pd.Index(known)
    known = pd.Index(known)
    return known.get_indexer(ids), known


def describe_ratings(ratings: pd.DataFrame) -> pd.Series:
    """Sizes of a rating table: users, items, ratings, density, median ratings of a user and of an item, mean rating."""
    check_ratings(ratings)
    by_user, by_item = ratings["user_id"].value_counts(), ratings["item_id"].value_counts()
    return pd.Series(
        {
            "users": len(by_user),
            "items": len(by_item),
            "ratings": len(ratings),
            "share of cells with a rating": len(ratings) / (len(by_user) * len(by_item)),
            "ratings by the median user": by_user.median(),
            "ratings of the median item": by_item.median(),
            "mean rating": ratings["rating"].mean(),
        }
    )


def top_users_and_items(ratings: pd.DataFrame, n_users: int = 10_000, n_items: int = 1_000) -> pd.DataFrame:
    """The ratings by the `n_users` most active users of the `n_items` most rated items: the original study's cut.

    Both are chosen on the whole frame by number of ratings, of equals those that appear first, which is how
    ``Series.value_counts().nlargest`` resolves ties in pandas 3. A chosen user may keep few ratings. With the defaults
    the original study got 4,027,019 rows of MovieLens 25M.

    Parameters
    ----------
    ratings : DataFrame
        With the columns user_id, item_id and rating; others are kept.
    n_users, n_items : int
        How many to keep. More than there are keeps all.

    Returns
    -------
    DataFrame
        The chosen rows in their order, with their index.

    Raises
    ------
    ValueError
        A number below 1.
    DataError, TypeError
        What `check_ratings` finds wrong.
    NothingLeftError
        The chosen users rated none of the chosen items.
    """
    check_ratings(ratings)
    for name, n in (("n_users", n_users), ("n_items", n_items)):
        if n < 1:
            raise ValueError(f"{name} must be at least 1, not {n}")
    # Unsorted counts stand in order of appearance, which every pandas keeps for ties; sorted ones only since pandas 3.
    users = ratings["user_id"].value_counts(sort=False).nlargest(n_users).index
    items = ratings["item_id"].value_counts(sort=False).nlargest(n_items).index
    chosen = ratings[ratings["user_id"].isin(users) & ratings["item_id"].isin(items)]
    if chosen.empty:
        raise NothingLeftError(
            f"none of the {n_users:,} most active users rated any of the {n_items:,} most rated items: "
            "ask for more of either"
        )
    return chosen


def split_ratings(
    ratings: pd.DataFrame, *, test: float = 0.2, valid: float = 0.1, seed: int = 0, by: str = "random"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Training, validation and test ratings, disjoint, together all of `ratings`.

    Parameters
    ----------
    ratings : DataFrame
        With the columns user_id, item_id and rating, and timestamp if ``by="time"``.
    test : float in [0, 1)
        The test share of all ratings.
    valid : float in [0, 1)
        The validation share of the ratings that are not test.
    seed : int
        Of the random split.
    by : {"random", "time"}
        "random": test is what ``sklearn.model_selection.train_test_split(ratings, test_size=test, random_state=seed)``
        holds out, and validation what it holds out of the rest. "time": each user's latest ratings are test, the latest
        before them validation; shares are rounded down for each user, and of equal times the row that comes later
        counts as later.

    Returns
    -------
    train, valid, test : DataFrame
        Rows of `ratings` with their index.

    Raises
    ------
    ValueError
        A share outside [0, 1) or an unknown `by`.
    DataError, TypeError
        What `check_ratings` finds wrong, or timestamps that are missing, or are no times.
    NothingLeftError
        A part that should hold ratings would have none.
    """
    check_ratings(ratings)
    for name, share in (("test", test), ("valid", valid)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} is a share of the ratings: at least 0 and below 1, not {share}")
    if by not in ("random", "time"):
        raise ValueError(f"by must be 'random' or 'time', not {by!r}")
    if by == "time":
        check_columns(["timestamp"], ratings.columns, "by='time'")
        seconds_of(ratings["timestamp"])
    rest, held_out = _hold_out(ratings, test, seed, by)
    train, chosen = _hold_out(rest, valid, seed, by)
    return train, chosen, held_out


def _hold_out(ratings: pd.DataFrame, share: float, seed: int, by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    if share == 0:
        return ratings, ratings.iloc[:0]
    if by == "random":
        if np.ceil(len(ratings) * share) >= len(ratings):
            raise NothingLeftError(
                f"a share of {share} of the ratings is all of them ({len(ratings):,}): nothing is left"
            )
        from sklearn.model_selection import train_test_split  # here, for it takes a second to import

        return train_test_split(ratings, test_size=share, random_state=seed)
    by_user = (
        ratings.reset_index(drop=True).sort_values(["user_id", "timestamp"], kind="stable").groupby("user_id")["rating"]
    )
    counts, ranks = by_user.transform("size").sort_index().to_numpy(), by_user.cumcount().sort_index().to_numpy()
    latest = ranks >= counts - np.floor(counts * share + 1e-9)
    if not latest.any():
        raise NothingLeftError(
            f"no user has enough ratings to hold out a share of {share}: the most active has {counts.max():,}"
        )
    return ratings[~latest], ratings[latest]

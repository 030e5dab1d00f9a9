"""What can be wrong with ratings: one error type per cause, and the checks that everything else shares.

Every message says what is wrong, where, how often, and what to do about it. Nothing is dropped or repaired silently.
"""

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import pandas as pd

RATING_COLUMNS = ("user_id", "item_id", "rating")
LATEST = 1e11  # seconds since 1970, in the year 5138: what is larger counts something else
ROW = "row"  # the name of an index that counts the rows of a file, from 1


class DataError(ValueError):
    """Something is wrong with the ratings, or with what was asked of them. The base of all errors below."""


class MissingColumnError(DataError):
    """A column that was asked for is not there."""


class NoHeaderError(DataError):
    """The first line of a file holds ratings, not the names of columns."""


class SeparatorError(DataError):
    """The first line of a file does not fall into columns."""


class EncodingError(DataError):
    """A file is not in the encoding it was read in."""


class FileFormatError(DataError):
    """A file is no table: not what its name promises, or with rows that have too few or too many fields."""


class EmptyDataError(DataError):
    """There are no ratings."""


class NotANumberError(DataError):
    """A rating is text."""


class NotFiniteError(DataError):
    """A rating is missing, NaN or infinite."""


class MissingIdError(DataError):
    """A rating has no user or no item."""


class IdTypeError(DataError):
    """Ids are neither whole numbers nor text, or not of the type of the data's."""


class TimestampError(DataError):
    """A time is neither seconds since 1970 nor a date, or outside what can be represented."""


class DuplicateRatingError(DataError):
    """A user rated an item twice."""


class NothingLeftError(DataError):
    """A filter or a split leaves no ratings."""


class OneUserError(DataError):
    """All ratings are by one user: there is nobody to learn from."""


class OneItemError(DataError):
    """All ratings are of one item: there is nothing to recommend."""


class ConstantRatingsError(DataError):
    """All ratings are equal: there is no taste to learn."""


class DuplicateItemError(DataError):
    """An item is described twice."""


class UnknownIdError(DataError, KeyError):
    """A user or an item has no rating in the training data."""

    __str__ = Exception.__str__  # a KeyError would put its message in quotes


class ListLengthError(DataError):
    """A list of fewer than one item was asked for."""


def check_columns(wanted: Iterable[str], there: Iterable[str], where: str) -> None:
    """Raise unless each of `wanted` is among `there` once; `where` begins the message.

    Raises
    ------
    MissingColumnError, FileFormatError
    """
    there = list(there)
    missing = ", ".join(str(name) for name in wanted if name not in there)
    if missing:
        names = ", ".join(shortened(name, 40) for name in there[:10]) + (f", … ({len(there)})" if there[10:] else "")
        raise MissingColumnError(f"{where}: no column {missing}; there are: {names}")
    for name in wanted:
        if there.count(name) > 1:
            raise FileFormatError(f"{where}: several columns are called {name}")


def shortened(text: object, length: int = 80) -> str:
    """`text`, cut to so many characters."""
    text = str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def check_ratings(frame: pd.DataFrame, names: tuple[str, str, str] = RATING_COLUMNS) -> None:
    """Raise unless `frame` is a usable rating table, with columns of these names.

    Doubled (user, item) pairs are found where they matter: by `resolve_duplicates` when a file is read, and by
    `RatingMatrix.from_frame`.

    Raises
    ------
    MissingColumnError, FileFormatError, EmptyDataError, NotANumberError, NotFiniteError, MissingIdError, IdTypeError
    TypeError
        It is no frame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"ratings are a DataFrame with the columns {', '.join(names)}, not of {type(frame).__name__}")
    check_columns(names, frame.columns, "the ratings")
    if len(frame) == 0:
        raise EmptyDataError("there are no ratings: the frame is empty")
    *ids, rating = names
    check_numbers(frame[rating])
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(frame[rating].to_numpy(dtype=np.float32, na_value=np.nan))
    if bad.any():
        raise NotFiniteError(f"missing or infinite ratings: {bad.sum():,}, {_first(frame, bad)}; drop or repair them")
    for column in ids:
        check_ids(frame[column])


def check_numbers(ratings: pd.Series) -> None:
    """Raise NotANumberError unless the type of `ratings` is one of real numbers: neither truths nor complex ones."""
    if not pd.api.types.is_any_real_numeric_dtype(ratings):
        raise NotANumberError(
            f"the column {ratings.name} holds {ratings.dtype}, not numbers: convert it first, with .astype(float)"
        )


def check_ids(ids: pd.Series) -> None:
    """Raise unless all ratings have an id, and these are all whole numbers or all text.

    Raises
    ------
    MissingIdError, IdTypeError
    """
    bad = ids.isna().to_numpy()
    if bad.any():
        raise MissingIdError(f"ratings without {ids.name}: {bad.sum():,}, {_first(ids, bad)}; drop or repair them")
    kind = kind_of_ids(ids)
    if kind not in ("integer", "string"):
        raise IdTypeError(f"the column {ids.name} holds {kind} values: ids are whole numbers or text, all of one kind")


def check_learnable(frame: pd.DataFrame) -> None:
    """Raise if there is nothing to learn from ratings that are in order.

    Raises
    ------
    OneUserError, OneItemError, ConstantRatingsError
    """
    for column, error, whose in (("user_id", OneUserError, "by user"), ("item_id", OneItemError, "of item")):
        if (frame[column] == frame[column].iloc[0]).all():
            raise error(
                f"all {len(frame):,} ratings are {whose} {frame[column].tolist()[0]!r}: "
                "what people have in common takes at least two users and two items"
            )
    lowest, highest = frame["rating"].min(), frame["rating"].max()
    if lowest == highest:
        raise ConstantRatingsError(
            f"all {len(frame):,} ratings are {lowest:g}: there is no taste to learn from ratings that are all equal; "
            "if they only say who bought what, they are not ratings"
        )


def resolve_duplicates(frame: pd.DataFrame, duplicates: str) -> pd.DataFrame:
    """The ratings with each (user, item) pair once.

    Parameters
    ----------
    frame : DataFrame
        With the columns user_id, item_id, rating and perhaps timestamp.
    duplicates : {"error", "last", "mean"}
        What to do about pairs that stand more than once: raise, keep the latest by timestamp (of equal times, or
        without times, the one that stands last), or take their mean (and the latest timestamp) in place of the first.

    Raises
    ------
    DuplicateRatingError
        With ``duplicates="error"``: a pair stands more than once.
    """
    pair = ["user_id", "item_id"]
    if duplicates not in ("error", "last", "mean"):
        raise ValueError(f"duplicates must be 'error', 'last' or 'mean', not {duplicates!r}")
    if not _may_be_doubled(frame) or not (twice := frame.duplicated(pair).to_numpy()).any():
        return frame
    if duplicates == "error":
        raise duplicate_error(frame, twice)
    if duplicates == "last":
        frame = frame.reset_index(drop=True)
        by_time = frame.sort_values("timestamp", kind="stable") if "timestamp" in frame else frame
        return by_time.drop_duplicates(pair, keep="last").sort_index().reset_index(drop=True)
    how = {"rating": "mean", "timestamp": "max"}
    merged = frame.astype({"rating": float}).groupby(pair, sort=False, as_index=False)
    return merged.agg({column: how[column] for column in frame.columns if column not in pair}).astype(
        {"rating": np.float32}
    )


def _may_be_doubled(frame: pd.DataFrame) -> bool:
    """Whether two rows share a mixture of their ids: a tenth of the time and memory of comparing the ids themselves."""
    if not frame["user_id"].dtype == frame["item_id"].dtype == np.int64:
        return True
    mixed = frame["user_id"].to_numpy().astype(np.uint64)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed += frame["item_id"].to_numpy().view(np.uint64)
    mixed.sort()
    return bool((mixed[1:] == mixed[:-1]).any())


def duplicate_error(frame: pd.DataFrame, twice: np.ndarray) -> DuplicateRatingError:
    """The error that names the first pair marked in `twice`, a boolean ndarray."""
    user_id, item_id = (frame.loc[twice, name].tolist()[0] for name in ("user_id", "item_id"))
    return DuplicateRatingError(
        f"ratings of a (user, item) pair that was rated before: {twice.sum():,}, the first by user {user_id!r} of item "
        f"{item_id!r}; keep one of each, or let read_ratings, load_movielens or saerec run do it: duplicates can be "
        "last or mean"
    )


def check_item_features(features: pd.DataFrame, item_ids: pd.Series) -> None:
    """Raise unless `features` holds finite numbers for each item once, and for some of `item_ids`.

    Raises
    ------
    TypeError, NotANumberError, NotFiniteError, DuplicateItemError, UnknownIdError
    """
    if not isinstance(features, pd.DataFrame) or features.index.nlevels > 1:
        raise TypeError(f"item features are a DataFrame indexed by item_id, not of {type(features).__name__}")
    for name, dtype in features.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            raise NotANumberError(f"the item feature {name} holds {dtype}, not numbers: pandas.get_dummies makes flags")
    bad = ~np.isfinite(features.to_numpy(dtype=np.float32, na_value=np.nan)).all(axis=1)
    if bad.any():
        raise NotFiniteError(
            f"items with missing or infinite features: {bad.sum():,}, {_first(features, bad)}; fill or drop them"
        )
    twice = features.index.duplicated()
    if twice.any():
        raise DuplicateItemError(f"items described twice: {twice.sum():,}, {_first(features, twice)}; keep one of each")
    if not features.index.isin(item_ids.unique()).any():
        raise UnknownIdError(
            f"none of the {len(features):,} items described has a rating: the index of the features is to hold item ids"
        )


def seconds_of(timestamps: pd.Series) -> np.ndarray:
    """Timestamps as whole seconds since 1970, int64, from numbers of seconds or pandas dates (without a zone: UTC).

    Raises
    ------
    TimestampError
        One is missing, or something else.
    """
    timestamps, seconds = pd.Series(timestamps), None
    if pd.api.types.is_datetime64_any_dtype(timestamps):
        if timestamps.dt.tz is not None:
            timestamps = timestamps.dt.tz_convert("UTC").dt.tz_localize(None)
        seconds, bad = timestamps.to_numpy().astype("datetime64[s]"), timestamps.isna().to_numpy()
    elif pd.api.types.is_numeric_dtype(timestamps) and not pd.api.types.is_bool_dtype(timestamps):
        seconds = timestamps.to_numpy(float, na_value=np.nan)
        bad = ~(np.abs(seconds) < LATEST)  # so with NaN
    else:
        bad = np.ones(len(timestamps), dtype=bool)
    if bad.any():
        raise TimestampError(
            f"timestamps that are neither dates nor numbers of seconds (not milliseconds) since 1970: {bad.sum():,}, "
            f"the first {shortened(repr(timestamps[bad].tolist()[0]))}; pandas.to_datetime makes dates of text, or "
            "leave the column out"
        )
    return np.zeros(0, dtype=np.int64) if seconds is None else seconds.astype(np.int64)


def check_list_length(k: int | None) -> None:
    """Raise ListLengthError unless `k` is a whole number of at least 1, or None."""
    if k is not None and (not isinstance(k, Integral) or isinstance(k, bool) or k < 1):
        raise ListLengthError(f"k must be a whole number of at least 1, not {k!r}")


def _first(rows: pd.DataFrame | pd.Series, bad: np.ndarray) -> str:
    return f"the first {place(rows.index, bad)}"


def place(index: pd.Index, bad: np.ndarray) -> str:
    """Where the first of the rows is that are marked in `bad`."""
    first = index[bad].tolist()[0]
    return f"in row {first} (from 1, without the header)" if index.name == ROW else f"at index {first!r}"


def kind_of_ids(ids: pd.Series | pd.Index) -> str:
    """What pandas takes `ids` for: "integer", "string", or something that is no id."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        ids = ids.dtype.categories
    return pd.api.types.infer_dtype(ids, skipna=False)


def check_fitted(estimator: object, attribute: str) -> None:
    """Raise scikit-learn's NotFittedError unless `estimator` has the `attribute` that its `fit` sets."""
    if not hasattr(estimator, attribute):
        from sklearn.exceptions import NotFittedError  # here, for it takes a second to import

        raise NotFittedError(f"this {type(estimator).__name__} has not been fitted yet: call fit first")

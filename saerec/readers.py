"""Ratings from anywhere: CSV or Parquet file or frame, with any column names, as the tidy frame that saerec takes."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from saerec.tables import RATING, TEXT, TEXT_ID, TIME, read_parquet, read_text
from saerec.validation import (
    DataError,
    FileFormatError,
    IdTypeError,
    MissingColumnError,
    MissingIdError,
    TimestampError,
    UnknownIdError,
    check_columns,
    check_ratings,
    kind_of_ids,
    resolve_duplicates,
)

LATEST = pd.Timestamp.max.timestamp()  # in the year 2262


@dataclass(frozen=True)
class Dataset:
    """Ratings, and what is rated.

    Attributes
    ----------
    ratings : DataFrame
        One row a rating, in the order of the source: user_id and item_id (int64 or str), rating (float32, stars) and,
        unless the source has none, timestamp (int64, seconds since 1970, UTC).
    movies : DataFrame
        One row an item: item_id, title and genres (str; genres separated by "|", "" for none) and year (Int16, missing
        where unknown).
    """

    ratings: pd.DataFrame
    movies: pd.DataFrame

    def __repr__(self) -> str:
        users, rated = self.ratings["user_id"].nunique(), self.ratings["item_id"].nunique()
        known = f"{len(self.ratings):,} ratings by {users:,} users of {rated:,} items"
        return f"Dataset({known}; {len(self.movies):,} items listed)"


def read_ratings(
    path_or_frame: str | os.PathLike | pd.DataFrame,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    timestamp: str | None = None,
    *,
    duplicates: str = "error",
    separator: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """Your own ratings as a tidy frame, in their order.

    Parameters
    ----------
    path_or_frame : path or DataFrame
        A CSV file with a header (.csv.gz too), a Parquet file, or a frame.
    user, item, rating, timestamp : str
        The names of its columns; others are ignored. Ids are whole numbers or text; those of a CSV file are numbers if
        all are written as numbers print (7, not 007), otherwise text. Ratings may have any scale; 0 and negative
        ratings are ratings. Timestamps are seconds since 1970, or dates and times (ISO 8601; UTC unless they say
        otherwise).
    duplicates : {"error", "last", "mean"}
        What to do about pairs of a user and an item that stand more than once: `saerec.validation.resolve_duplicates`.
    separator : str, optional
        Of a CSV file. Left out: comma, semicolon, tab or bar, whichever gives the columns asked for.
    encoding : str
        Of a CSV file.

    Returns
    -------
    DataFrame
        user_id and item_id (int64 or str), rating (float32, stars) and, if asked for, timestamp (int64, seconds since
        1970, UTC).

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        What is wrong with it; one type per cause, in `saerec.validation`.
    """
    kinds = {"user_id": TEXT_ID, "item_id": TEXT_ID, "rating": RATING, "timestamp": TIME}
    names = dict(zip(filter(None, (user, item, rating, timestamp)), kinds))
    if len(names) < (4 if timestamp else 3):
        raise MissingColumnError(f"user, item, rating and timestamp are a column each, not {', '.join(names)}")
    if isinstance(path_or_frame, pd.DataFrame):
        return _tidy(path_or_frame, names, duplicates, "the frame")
    columns = {name: kinds[ours] for name, ours in names.items()}
    try:
        frame = _read(Path(path_or_frame), columns, separator=separator, encoding=encoding)
    except MissingColumnError as error:
        raise MissingColumnError(f"{error}; say which they are with user, item, rating and timestamp") from error
    return _tidy(frame, names, duplicates, str(path_or_frame))


def read_titles(
    path_or_frame: str | os.PathLike | pd.DataFrame | None,
    item_ids: pd.Series,
    item: str = "item_id",
    title: str = "title",
) -> pd.DataFrame:
    """The titles of rated items, in the form of `Dataset.movies`.

    Parameters
    ----------
    path_or_frame : path or DataFrame, optional
        A CSV or Parquet file, or a frame, with a column of ids and one of titles. Of doubled ids the first counts.
    item_ids : Series
        Each id in it gets a row, sorted; its title is the id itself where there is no other. Ids are compared as text.
    item, title : str
        The names of the two columns.

    Raises
    ------
    FileNotFoundError, DataError
        As of `read_ratings`.
    UnknownIdError
        None of the ids with a title is among the rated ones.
    """
    known = pd.Series(np.unique(item_ids))
    titles = known.astype(str)
    if path_or_frame is not None:
        frame, where = path_or_frame, "the frame"
        if not isinstance(frame, pd.DataFrame):
            frame, where = _read(Path(path_or_frame), {item: TEXT, title: TEXT}), str(path_or_frame)
        check_columns([item, title], frame.columns, where)
        of_id = pd.Series(frame[title].to_numpy(), index=frame[item].astype(str).str.strip()).dropna().astype(str)
        of_id = of_id[of_id.str.strip() != ""]
        if not of_id.index.isin(titles).any():
            example = f", for example {of_id.index[0]!r}" if len(of_id) else ""
            raise UnknownIdError(
                f"{where}: none of its {len(of_id):,} ids with a title{example}, is among the rated ones, for example "
                f"{titles[0]!r}"
            )
        titles = titles.map(of_id[~of_id.index.duplicated()]).fillna(titles)
    year = pd.array([None] * len(known), dtype="Int16")
    return pd.DataFrame({"item_id": known, "title": titles.astype(str), "genres": "", "year": year})


def _read(path: Path, columns: dict, **options) -> pd.DataFrame:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return read_parquet(path, list(columns))
    if start[:2] == b"PK":
        raise FileFormatError(f"{path} is a zip archive or an Excel workbook, not text: export or unpack it as CSV")
    return read_text(path, columns, **options)


def _tidy(source: pd.DataFrame, names: dict[str, str], duplicates: str, where: str) -> pd.DataFrame:
    """The columns of `source` that `names` maps to ours, checked and in their dtypes."""
    check_columns(names, source.columns, where)
    frame = source[list(names)].set_axis(list(names.values()), axis=1)
    try:
        check_ratings(frame)
        frame = frame.assign(
            user_id=_ids(frame["user_id"]), item_id=_ids(frame["item_id"]), rating=frame["rating"].astype(np.float32)
        )
        if "timestamp" in frame:
            frame["timestamp"] = _seconds(frame["timestamp"])
        return resolve_duplicates(frame.reset_index(drop=True), duplicates)
    except DataError as error:
        raise type(error)(f"{where}: {error}") from error


def _ids(ids: pd.Series) -> pd.Series:
    if kind_of_ids(ids) == "string":
        text = ids.astype(str).str.strip()
        if (text == "").any():
            raise MissingIdError(f"ratings with a blank {ids.name}: {(text == '').sum():,}; drop or repair them")
        return text
    try:
        whole = ids.astype(np.int64)
    except OverflowError:
        whole = -ids
    if (whole != ids).any():
        raise IdTypeError(f"the column {ids.name} holds numbers beyond 64 bits: make them text, with .astype(str)")
    return whole


def _seconds(times: pd.Series) -> pd.Series:
    """Seconds since 1970, UTC, int64."""
    advice = "write them so"
    if pd.api.types.is_numeric_dtype(times) and not pd.api.types.is_bool_dtype(times):
        seconds, advice = times.astype("Float64"), "divide milliseconds by 1000"
    else:
        dates = times if pd.api.types.is_datetime64_any_dtype(times) else times.astype(str)
        dates = pd.to_datetime(dates, format="ISO8601", utc=True, errors="coerce")
        seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    bad = ~(seconds.abs() <= LATEST).fillna(False).to_numpy(dtype=bool)
    if bad.any():
        first = f"{times[bad].tolist()[0]!r} at index {times.index[bad].tolist()[0]!r}"
        raise TimestampError(
            "timestamps that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00: "
            f"{bad.sum():,}, the first {first}; {advice}"
        )
    return np.floor(seconds).astype(np.int64)

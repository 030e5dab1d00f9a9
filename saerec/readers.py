"""Ratings from anywhere: CSV or Parquet file or frame, with any column names, as the tidy frame that saerec takes."""

import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from saerec.tables import LATEST, RATING, TEXT, TEXT_ID, TIME, open_bytes, read_parquet, read_text
from saerec.validation import (
    ROW,
    DataError,
    EmptyDataError,
    EncodingError,
    FileFormatError,
    IdTypeError,
    MissingColumnError,
    MissingIdError,
    SeparatorError,
    TimestampError,
    UnknownIdError,
    check_columns,
    check_ids,
    check_ratings,
    kind_of_ids,
    place,
    resolve_duplicates,
    shortened,
)

NO_SECONDS = {  # numbers that mean dates; as seconds all would lie in 1970
    "years": (1900, 2100),
    "days as spreadsheets count them": (20_000, 80_000),
    "dates without dashes": (1900_01_01, 2100_12_31),
}
NO_TEXT = {  # how files begin, in small letters, without blanks
    b"pk\x03\x04": "a zip archive or an Excel workbook, not text: export or unpack it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook, not text: export it as CSV",
    b"bzh": "a bzip2 file, not text: unpack it",
    b"\xfd7zxz": "an xz file, not text: unpack it",
    b"\x89png": "a PNG picture, not text",
    b"arrow1": "a Feather file, not text: save it as Parquet",
    b"{": "JSON, not a table: export it as CSV",
    b"[{": "JSON, not a table: export it as CSV",
    b"<!doctypehtml": "a web page, not a table: download the file that it leads to",
    b"<html": "a web page, not a table: download the file that it leads to",
}
OPTIONS = {
    EncodingError: "; encoding='cp1252' (--encoding cp1252) is that of Windows, 'utf-16' that of Excel's Unicode text",
    SeparatorError: "; separator=… (--separator) says what else divides columns",
}


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
        A CSV file with a header (compressed as .csv.gz or alone in a .zip, too), a Parquet file, or a frame.
    user, item, rating, timestamp : str
        The names of its columns (of a frame also such as 0, 1, 2); others are ignored. Ids are whole numbers or text;
        those of a CSV file are numbers if all are written as numbers print (7, not 007), otherwise text. Text counts as
        it is written, but for the spaces around it, which go: 7, 007 and 7.0 among text are three ids. Ratings may have
        any scale, which is then from the lowest to the highest in the data, outliers included; 0 and negative ratings
        are ratings. Timestamps are seconds since 1970, or dates and times (ISO 8601; UTC unless they say otherwise).
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
    asked = [user, item, rating, *([] if timestamp is None else [timestamp])]
    names = dict(zip(asked, kinds))
    if len(names) < len(asked):
        given = ", ".join(map(str, names))
        raise MissingColumnError(f"user, item, rating and timestamp are a column each, not {given}")
    if isinstance(path_or_frame, pd.DataFrame):
        return _tidy(path_or_frame, names, duplicates, "the frame")
    columns = {name: kinds[ours] for name, ours in names.items()}
    try:
        frame = _read(Path(path_or_frame), columns, separator=separator, encoding=encoding)
        frame.index = pd.RangeIndex(1, len(frame) + 1, name=ROW)
    except MissingColumnError as error:
        raise MissingColumnError(f"{error}; say which they are with user, item, rating and timestamp") from error
    return _tidy(frame, names, duplicates, str(path_or_frame))


def read_titles(
    path_or_frame: str | os.PathLike | pd.DataFrame | None,
    item_ids: pd.Series,
    item: str = "item_id",
    title: str = "title",
    *,
    separator: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """The titles of rated items, in the form of `Dataset.movies`.

    Parameters
    ----------
    path_or_frame : path or DataFrame, optional
        A CSV or Parquet file, or a frame, with a column of ids and one of titles. Of doubled ids the first counts.
    item_ids : Series
        Of ratings. Each id in it gets a row, sorted; its title is the id itself where there is no other: a warning says
        of how many. Ids are compared as text; if those rated are numbers, 7.0 is 7.
    item, title : str
        The names of the two columns.
    separator, encoding
        Of a CSV file, as of `read_ratings`.

    Raises
    ------
    FileNotFoundError, DataError
        As of `read_ratings`.
    UnknownIdError
        None of the ids with a title is among the rated ones.
    """
    item_ids = pd.Series(item_ids, name="item_id")
    if item_ids.empty:
        raise EmptyDataError("there are no ratings whose items could have titles")
    check_ids(item_ids)
    known = pd.Series(np.unique(item_ids))
    titles = known.astype(str)
    if path_or_frame is not None:
        frame, where = path_or_frame, "the frame"
        if not isinstance(frame, pd.DataFrame):
            where = str(path_or_frame)
            frame = _read(Path(where), {item: TEXT, title: TEXT}, separator=separator, encoding=encoding)
        check_columns([item, title], frame.columns, where)
        ids = frame[item].astype(str).str.strip()
        if pd.api.types.is_integer_dtype(known):
            ids = ids.str.replace(r"\.0+$", "", regex=True)
        of_id = pd.Series(frame[title].to_numpy(), index=ids).dropna().astype(str)
        of_id = of_id[of_id.str.strip() != ""]
        if not of_id.index.isin(titles).any():
            example = f", for example {of_id.index[0]!r}" if len(of_id) else ""
            raise UnknownIdError(
                f"{where}: none of its ids with a title ({len(of_id):,}{example}) is among the rated ones, for example "
                f"{titles[0]!r}"
            )
        untitled = titles[~titles.isin(of_id.index)]
        if len(untitled):
            warnings.warn(
                f"{where}: {len(untitled):,} of {len(titles):,} rated items have no title in it, for example "
                f"{untitled.iloc[0]!r}; their ids stand for titles",
                stacklevel=2,
            )
        titles = titles.map(of_id[~of_id.index.duplicated()]).fillna(titles)
    year = pd.array([None] * len(known), dtype="Int16")
    return pd.DataFrame({"item_id": known, "title": titles.astype(str), "genres": "", "year": year})


def _read(path: Path, columns: dict, **options) -> pd.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, not a file; that of a MovieLens release is for load_movielens")
    with open_bytes(path) as file:
        start = file.read(100)
    if start.startswith(b"PAR1") and isinstance(path, Path):
        return read_parquet(path, list(columns))
    if start.startswith(b"PK\x03\x04") and (inside := _only_file(path)):
        return _read(inside, columns, **options)
    start = b"".join(start.removeprefix(b"\xef\xbb\xbf").lower().split())
    for beginning, kind in NO_TEXT.items():
        if start.startswith(beginning):
            raise FileFormatError(f"{path} is {kind}")
    try:
        return read_text(path, columns, **options)
    except (EncodingError, SeparatorError) as error:
        raise type(error)(f"{error}{OPTIONS[type(error)]}") from error


def _only_file(path: Path) -> zipfile.Path | None:
    """The file in a zip archive that holds one alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX/" not in name]
    except Exception:  # zipfile meets damaged files with a dozen kinds
        return None
    return zipfile.Path(path, names[0]) if len(names) == 1 else None


def _tidy(source: pd.DataFrame, names: dict[str, str], duplicates: str, where: str) -> pd.DataFrame:
    """The columns of `source` that `names` maps to ours, checked and in their dtypes."""
    check_columns(names, source.columns, where)
    user, item, rating, *when = names
    try:
        check_ratings(source, (user, item, rating))
        frame = pd.DataFrame(
            {"user_id": _ids(source[user]), "item_id": _ids(source[item]), "rating": source[rating].astype(np.float32)}
        )
        if when:
            frame["timestamp"] = _seconds(source[when[0]])
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
        if (whole == ids).all():
            return whole
    except (OverflowError, ValueError):  # but NumPy wraps around
        pass
    raise IdTypeError(f"the column {ids.name} holds numbers beyond 64 bits: make them text, with .astype(str)")


def _seconds(times: pd.Series) -> pd.Series:
    """Seconds since 1970, UTC, int64."""
    advice = "write them so"
    if pd.api.types.is_datetime64_any_dtype(times):
        seconds = pd.Series(times.to_numpy("datetime64[us]").view(np.int64) / 1e6, index=times.index)
    elif pd.api.types.is_any_real_numeric_dtype(times):
        seconds, advice = times.astype("Float64"), "divide milliseconds by 1000"
    else:
        text = times.astype(str)
        seconds = pd.to_numeric(text, errors="coerce")
        if seconds.notna().mean() < 0.5:  # dates, then: text is of the kind that most of it is
            text = text.where(text.str.match(r"\s*[0-9]"))  # not "now", which pandas would take
            dates = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
            seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    bad = ~(seconds.abs() <= LATEST).fillna(False).to_numpy(dtype=bool)
    if bad.any():
        first = times[bad].tolist()[0]
        first = shortened(repr(first) if isinstance(first, str) else first)
        raise TimestampError(
            f"values of {times.name} that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to "
            f"the year 2262: {bad.sum():,}, the first {first} {place(times.index, bad)}; {advice}"
        )
    for what, (lowest, highest) in NO_SECONDS.items():
        if seconds.between(lowest, highest).all():
            raise TimestampError(
                f"the values of {times.name} look like {what}, such as {times.tolist()[0]!r}, not like seconds since "
                "1970: write dates like 2026-01-31"
            )
    return np.floor(seconds).astype(np.int64)

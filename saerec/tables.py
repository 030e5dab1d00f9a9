"""Columns of text and Parquet files, read fast and strictly: each row has every field, each field is what it must be.

pyarrow reads; if it stumbles, the standard library's csv goes through the file again, slowly, to say where and why.
"""

import csv
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from saerec.files import save_atomically
from saerec.validation import (
    DataError,
    EmptyDataError,
    EncodingError,
    FileFormatError,
    IdTypeError,
    MissingIdError,
    NoHeaderError,
    NotANumberError,
    NotFiniteError,
    SeparatorError,
    TimestampError,
    check_columns,
    shortened,
)

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
JOINT = "\x1f"  # ASCII's unit separator: stands in for separators that pyarrow and csv do not take
LATEST = pd.Timestamp.max.timestamp()  # in the year 2262, seconds since 1970
INT = re.compile(r"[ \t]*-?[0-9]{1,999}[ \t]*")  # zeros before it may be many; Python reads 4,300 digits
FOREIGN = re.compile(r"[^!-~ \t]|_")  # in numbers Python takes some of these, pyarrow none
DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
SEP = re.compile(r"sep=.\r?$", re.IGNORECASE)
CANONICAL_INT = r"0|-?[1-9][0-9]{0,17}"  # what an int prints as; 007 is text


@dataclass(frozen=True)
class Column:
    """What the fields of a column must be."""

    what: str
    type: pa.DataType | None  # None: whatever it looks like
    error: type[DataError]  # if a field is something else
    blank: type[DataError] | None  # if a field is blank, None: it may be


RATING = Column("a number", pa.float32(), NotANumberError, NotFiniteError)
INT_ID = Column("a whole number", pa.int64(), IdTypeError, MissingIdError)
TEXT_ID = Column("an id", pa.dictionary(pa.int32(), pa.string()), IdTypeError, MissingIdError)
SECONDS = Column("a whole number of seconds (not milliseconds) since 1970", pa.int64(), TimestampError, TimestampError)
TIME = Column("a time", None, TimestampError, TimestampError)
TEXT = Column("text", pa.string(), FileFormatError, None)


def read_text(
    path: Path,
    columns: Mapping[str, Column],
    *,
    names: list[str] | None = None,
    separator: str | None = None,
    encoding: str = "utf-8",
    quotes: bool = True,
) -> pd.DataFrame:
    """Some columns of a delimited text file.

    Parameters
    ----------
    path : pathlib.Path or zipfile.Path
        With the ending .gz, or if it begins as such files do, it is decompressed.
    columns : mapping of name to Column
        Which to read. A `TEXT_ID` becomes int64 if every id is written as an int prints, otherwise str, without the
        spaces around it.
    names : list of str, optional
        All columns, of a file without a header.
    separator : str, optional
        Left out: the one of `SEPARATORS` that splits the header into the columns asked for.
    encoding : str
    quotes : bool
        Whether a field may stand in double quotes.

    Raises
    ------
    DataError
        One type per cause; the message names the file, the line, and how many rows are like it.
    """
    header = 0  # lines
    if names is None:
        header, separator, names = _header(path, list(columns), separator, encoding)
    try:
        with open_bytes(path, separator or "") as file:
            table = arrow_csv.read_csv(
                file,
                arrow_csv.ReadOptions(column_names=names, skip_rows=header, encoding=encoding),
                arrow_csv.ParseOptions(
                    delimiter=_single(separator), quote_char='"' if quotes else False, newlines_in_values=quotes
                ),
                arrow_csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types={name: column.type for name, column in columns.items() if column.type},
                    null_values=[],
                ),
            )
    except (pa.ArrowException, UnicodeError) as error:
        reason = str(error)
    else:
        reason = ""
        if any(pa.types.is_binary(field.type) for field in table.schema):  # what is not text to pyarrow
            raise _encoding_error(path, encoding)
        frame = to_frame(table)
        bad = [name for name, column in columns.items() if not _is_sound(frame[name], column)]
        if bad or not len(frame):
            reason = f"bad values in {', '.join(bad)}"
    whole = any(column.type == pa.int64() or column is TIME for column in columns.values())
    doubtful = columns if reason or (whole and _count(path, b"0x", b"0X")) else {}  # pyarrow reads 0x10 as 16
    if doubtful or (quotes and _count(path, b'"')):  # and rows after a quote that is never closed as part of a field
        error = _diagnosis(path, doubtful, names, separator, encoding, quotes, header, reason)
        if error:
            raise error
    for name, column in columns.items():
        if column is TEXT_ID:
            frame[name] = _ids(frame[name])
    return frame


def read_parquet(path: Path, names: list[str]) -> pd.DataFrame:
    """Some columns of a Parquet file.

    Raises
    ------
    MissingColumnError, FileFormatError
    """
    try:
        check_columns(names, parquet.read_schema(path).names, str(path))
        table = parquet.read_table(path, columns=names)
        table.validate(full=True)  # that text is UTF-8, for one
        decimal = [pa.types.is_decimal(field.type) for field in table.schema]
        fields = [field.with_type(pa.float64()) if is_so else field for field, is_so in zip(table.schema, decimal)]
        return to_frame(table.cast(pa.schema(fields)))
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:  # whatever pyarrow makes of odd bytes
        raise FileFormatError(f"{path} is a damaged Parquet file: {error}") from error


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table, which is used up, as a frame that can be written to."""
    frame = table.to_pandas(ignore_metadata=True, self_destruct=True, split_blocks=True, date_as_object=False)
    for name in frame:
        frame[name] = frame[name].copy()  # pyarrow's own memory is read-only
    return frame


@contextmanager
def open_bytes(path: Path, separator: str = "") -> Iterator[BinaryIO]:
    """The bytes of a file on disk or in a zip, decompressed; a separator of several characters replaced by `JOINT`."""
    try:
        with path.open("rb") as file:
            packed = path.name.endswith(".gz") or file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if packed else nullcontext(file) as content:
                if len(separator) > 1:
                    content = io.BytesIO(content.read().replace(separator.encode(), JOINT.encode()))
                yield content
    except (gzip.BadGzipFile, BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    except (RuntimeError, OSError) as error:  # in a zip: encrypted, or places that are not there
        if isinstance(path, Path):
            raise
        raise FileFormatError(f"{path} cannot be unpacked: {error}") from error


def _header(path: Path, wanted: list[str], separator: str | None, encoding: str) -> tuple[int, str, list[str]]:
    """Its last line (from 1), the separator, and the names of all columns. Excel's ``sep=;`` before it is skipped."""
    if separator and (not separator.isascii() or (len(separator) == 1 and separator in '"\r\n')):
        raise SeparatorError(f"{path}: columns cannot be separated by {separator!r}")
    try:
        with (
            open_bytes(path, separator or "") as file,
            io.TextIOWrapper(file, _with_bom(encoding), errors="replace", newline="") as lines,
        ):
            said = ((n, line) for n, line in enumerate(lines, 1) if line.strip() and not SEP.match(line))
            number, text = next(said, (0, ""))
    except DataError:
        raise
    except (LookupError, ValueError) as error:
        raise EncodingError(f"{path} cannot be read as {encoding}: {error}") from error
    if not number:
        raise EmptyDataError(f"{path} is empty")
    if "\ufffd" in text or "\0" in text:
        raise _encoding_error(path, encoding)
    text, where = text.rstrip("\r\n"), f"{path}, line {number}"
    try:
        splits = {
            mark: [name.strip() for name in next(csv.reader([text], delimiter=_single(mark)))]
            for mark in ([separator] if separator else SEPARATORS)
        }
    except csv.Error as error:
        raise FileFormatError(f"{where}: {error}") from error
    fitting = [mark for mark, names in splits.items() if set(wanted) <= set(names)]
    mark = fitting[0] if fitting else max(splits, key=lambda mark: len(splits[mark]))
    names = splits[mark]
    if len(names) == 1:
        by = repr(separator) if separator else ", ".join(SEPARATORS.values())
        raise SeparatorError(f"{where}: {shortened(text)!r} is not divided into columns by {by}; correct or remove it")
    if not fitting and any(INT.fullmatch(name) for name in names):
        raise NoHeaderError(
            f"{where}: {shortened(text)!r} should be a header but holds numbers; "
            f"put a line with the names of the columns before it, such as {','.join(map(str, wanted))}"
        )
    check_columns(wanted, names, where)
    return number, mark, names


def _single(separator: str) -> str:
    return separator if len(separator) == 1 else JOINT


def _count(path: Path, *marks: bytes) -> int:
    """How often these bytes, all equally many, stand in a file."""
    count, rest = 0, b""
    with open_bytes(path) as file:
        for block in iter(lambda: file.read(2**24), b""):
            count += sum((rest + block).count(mark) for mark in marks)
            rest = block[len(block) - len(marks[0]) + 1 :]
    return count


def _is_sound(fields: pd.Series, column: Column) -> bool:
    if column is RATING:
        return bool(np.isfinite(fields).all())
    if column is SECONDS:
        return bool(fields.between(-LATEST, LATEST).all())
    if column is TIME and pd.api.types.is_string_dtype(fields):
        return bool((fields.str.strip() != "").all())
    if column is TEXT_ID:
        return bool((fields.cat.categories.str.strip() != "").all())
    return True


def _ids(fields: pd.Series) -> pd.Series:
    """A column of text, categorical, as the ids that it spells."""
    ids = fields.cat.categories.str.strip()
    if ids.str.fullmatch(CANONICAL_INT).all():
        ids = ids.astype(np.int64)
    return pd.Series(ids.take(fields.cat.codes), name=fields.name)


def _diagnosis(
    path: Path,
    columns: Mapping[str, Column],
    names: list[str],
    separator: str,
    encoding: str,
    quotes: bool,
    header: int,
    reason: str,
) -> DataError | None:
    """What is wrong with a file: the first bad row, and how many are like it; without one, the reason if there is."""
    first, alike, n_rows, end = None, 0, 0, 0
    longest = csv.field_size_limit(2**31 - 1)
    try:
        with (
            open_bytes(path, separator or "") as file,
            io.TextIOWrapper(file, _with_bom(encoding), newline="") as lines,
        ):
            quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
            reader = csv.reader(lines, delimiter=_single(separator), quoting=quoting, strict=True)
            for row in reader:
                start, end = end + 1, reader.line_num
                if not row or end <= header:
                    continue
                n_rows += 1
                problem = _problem(row, columns, names, separator)
                if problem and first is None:
                    first, line = problem, start
                alike += bool(problem) and problem[:2] == first[:2]
    except UnicodeError:
        return _encoding_error(path, encoding)
    except csv.Error as error:
        problem = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
        if "expected after" in problem:
            problem = "text after a closing quote, perhaps for a quote before it is never closed"
        return FileFormatError(f"{path}, line {end + 1}: {problem}; correct or remove it")
    finally:
        csv.field_size_limit(longest)
    if not n_rows:
        return EmptyDataError(f"{path} holds {'a header and ' if header else ''}no rows")
    if first is None:
        return FileFormatError(f"{path} cannot be read as a table: {reason}") if reason else None
    error, _, message = first
    more = "" if alike == 1 else f" ({alike:,} rows like this)"
    return error(f"{path}, line {line}: {message}{more}; correct or remove it")


def _problem(
    row: list[str], columns: Mapping[str, Column], names: list[str], separator: str
) -> tuple[type[DataError], str, str] | None:
    """The error that a row deserves, the column, and a message."""
    if len(row) != len(names):
        pairs = [",".join(row[names.index(name) :][:2]) for name, column in columns.items() if column is RATING]
        comma = separator == "," and len(row) == len(names) + 1 and any(map(DECIMAL_COMMA.fullmatch, pairs))
        why = f", perhaps for {pairs[0]} has a comma where a point should be" if comma else ""
        return FileFormatError, "", f"{len(row)} fields instead of {len(names)}{why}"
    for name, column in columns.items():
        field = row[names.index(name)]
        quoted = repr(shortened(field))
        if column.blank and not field.strip():
            return column.blank, name, f"no {name}"
        if column.type == pa.int64():
            most = LATEST if column is SECONDS else 2**63 - 1
            if not INT.fullmatch(field) or abs(int(field)) > most:
                return column.error, name, f"the {name} is {quoted}, not {column.what}"
        if column is TIME and "x" in field.lower():
            return column.error, name, f"the {name} is {quoted}, not {column.what}"
        if column is RATING:
            try:
                value = float(FOREIGN.sub("?", field))
            except ValueError:
                comma = ": its comma should be a point" if DECIMAL_COMMA.fullmatch(field.strip()) else ""
                return column.error, name, f"the {name} is {quoted}, not {column.what}{comma}"
            if not abs(value) <= float(np.finfo(np.float32).max):
                return NotFiniteError, name, f"the {name} is {quoted}, not a finite number"
    return None


def _encoding_error(path: Path, encoding: str) -> EncodingError:
    with open_bytes(path) as file, io.TextIOWrapper(file, _with_bom(encoding), errors="replace", newline="") as lines:
        where = next((f", line {number}" for number, line in enumerate(lines, 1) if "\ufffd" in line), "")
    return EncodingError(f"{path}{where} is not {encoding}: save it as UTF-8")


def _with_bom(encoding: str) -> str:
    """The encoding that skips a byte order mark, as pyarrow does."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def write_table(path: Path, frame: pd.DataFrame, **options) -> None:
    """Write a frame to a CSV or Parquet file, whole or not at all.

    In a CSV file, text that a spreadsheet would take for a formula gets an apostrophe before it, which makes it text
    there: what begins with =, +, -, @ (or one of them as wide as a Chinese character), a tab or a line end, and is no
    number. So does what would begin so after a
    semicolon, a tab, a bar or a line end, for some spreadsheets take these for separators, quotes or not.

    Parameters
    ----------
    path : Path
        Ends in .csv or .parquet.
    frame : DataFrame
    **options
        Of ``DataFrame.to_csv``, or of ``to_parquet``.

    Raises
    ------
    ValueError
        As of `check_table_name`.
    """
    check_table_name(path)
    if path.suffix == ".csv":
        save_atomically(path, lambda part: _without_formulas(frame).to_csv(part, **options))
    else:
        save_atomically(path, lambda part: frame.to_parquet(part, **options))


FORMULA = re.compile(r"[=@\t\r\n＝＋－＠]|[+\-](?![0-9.]+$)")
AFTER_SEPARATOR = re.compile(r'([;\t|\n][\s"]*)(?=[=+\-@＝＋－＠])')
OWN_TYPES = ["number", "bool", "datetime", "datetimetz", "timedelta"]


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, with an apostrophe before each text that a spreadsheet would compute."""

    def harmless(value: object) -> object:
        if not isinstance(value, str):
            return value
        value = ("'" if FORMULA.match(value) else "") + value.replace("\r", " ")  # which pandas would leave unquoted
        return AFTER_SEPARATOR.sub(r"\1'", value)

    frame = frame.copy(deep=False)
    text = frame.select_dtypes(exclude=OWN_TYPES)
    frame[text.columns] = text.astype(object).map(harmless)
    levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
    levels = [level if pd.api.types.is_numeric_dtype(level.dtype) else level.map(harmless) for level in levels]
    index = levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    frame.index = index.set_names([harmless(name) for name in frame.index.names])
    return frame.rename(columns=harmless)


def check_table_name(path: Path) -> None:
    """Raise a ValueError if no table is written there, for the name ends neither in .csv nor in .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path} ends neither in .csv nor in .parquet")


def write_parts(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write frames with the same columns, one after the other, to one file, as `write_table` does.

    Raises
    ------
    ValueError
        As of `check_table_name`.
    """
    check_table_name(path)

    def write(part: Path) -> None:
        with ExitStack() as stack:
            for i, frame in enumerate(frames):
                if path.suffix == ".csv":
                    _without_formulas(frame).to_csv(part, mode="a" if i else "w", header=not i, index=False)
                    continue
                table = pa.Table.from_pandas(frame, preserve_index=False)
                if not i:
                    writer = stack.enter_context(parquet.ParquetWriter(part, table.schema))
                writer.write_table(table)

    save_atomically(path, write)

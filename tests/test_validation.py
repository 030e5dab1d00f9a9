"""The table of bad inputs: what was tried, the error it gets, and every word that it says."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saerec import (
    BiasBaseline,
    RatingMatrix,
    Recommender,
    cross_validate,
    describe_ratings,
    read_ratings,
    read_titles,
    split_ratings,
    top_users_and_items,
    user_rmse,
    validation,
)
from saerec.validation import (
    ConstantRatingsError,
    DataError,
    DuplicateItemError,
    DuplicateRatingError,
    EmptyDataError,
    EncodingError,
    FileFormatError,
    IdTypeError,
    ListLengthError,
    MissingColumnError,
    MissingIdError,
    NoHeaderError,
    NotANumberError,
    NotFiniteError,
    NothingLeftError,
    OneItemError,
    OneUserError,
    SeparatorError,
    TimestampError,
    UnknownIdError,
    resolve_duplicates,
)

SAY_ENCODING = "; encoding='cp1252' (--encoding cp1252) is that of Windows, 'utf-16' that of Excel's Unicode text"
SAY_SEPARATOR = "; separator=… (--separator) says what else divides columns"
HEAD = "user_id,item_id,rating\n"

# What stands in the file, how it is read, the error, and its message; {path} is the path of the file.
FILES = {
    "no file content": (b"", {}, EmptyDataError, "{path} is empty"),
    "blank lines": (b"\n \n\n", {}, EmptyDataError, "{path} is empty"),
    "a header alone": (HEAD, {}, EmptyDataError, "{path} holds a header and no rows"),
    "other columns": (
        "user,movie,rating\n1,2,3\n",
        {},
        MissingColumnError,
        "{path}, line 1: no column user_id, item_id; there are: user, movie, rating; say which they are with user, "
        "item, rating and timestamp",
    ),
    "other columns, between semicolons": (
        "user;movie;rating\n1;2;3\n",
        {},
        MissingColumnError,
        "{path}, line 1: no column user_id, item_id; there are: user, movie, rating; say which they are with user, "
        "item, rating and timestamp",
    ),
    "a header that is longer than csv allows": (
        "user_id,item_id,rating," + "long " * 30_000 + "\n1,2,3,4\n",
        {},
        FileFormatError,
        "{path}, line 1: field larger than field limit (131072)",
    ),
    "a column named twice": (
        "user_id,item_id,rating,rating\n1,2,3,4\n",
        {},
        FileFormatError,
        "{path}, line 1: several columns are called rating",
    ),
    "one column for two": (
        HEAD + "1,2,3\n",
        {"item": "user_id"},
        MissingColumnError,
        "user, item, rating and timestamp are a column each, not user_id, rating",
    ),
    "no header": (
        "1,2,3.5\n1,3,4\n",
        {},
        NoHeaderError,
        "{path}, line 1: '1,2,3.5' should be a header but holds numbers; put a line with the names of the columns "
        "before it, such as user_id,item_id,rating",
    ),
    "no header, and columns asked for by number": (
        "1,2,3.5\n1,3,4\n",
        {"user": 0, "item": 1, "rating": 2},
        NoHeaderError,
        "{path}, line 1: '1,2,3.5' should be a header but holds numbers; put a line with the names of the columns "
        "before it, such as 0,1,2",
    ),
    "blanks between the columns": (
        "user_id item_id rating\n1 2 3\n",
        {},
        SeparatorError,
        "{path}, line 1: 'user_id item_id rating' is not divided into columns by comma, semicolon, tab, bar; "
        "correct or remove it" + SAY_SEPARATOR,
    ),
    "the wrong separator": (
        HEAD + "1,2,3\n",
        {"separator": ";"},
        SeparatorError,
        "{path}, line 1: 'user_id,item_id,rating' is not divided into columns by ';'; correct or "
        "remove it" + SAY_SEPARATOR,
    ),
    "a separator that nothing can be divided by": (
        HEAD + "1,2,3\n",
        {"separator": "§"},
        SeparatorError,
        "{path}: columns cannot be separated by '§'" + SAY_SEPARATOR,
    ),
    "a quote for a separator": (
        HEAD + "1,2,3\n",
        {"separator": '"'},
        SeparatorError,
        "{path}: columns cannot be separated by '\"'" + SAY_SEPARATOR,
    ),
    "a line end for a separator": (
        HEAD + "1,2,3\n",
        {"separator": "\n"},
        SeparatorError,
        "{path}: columns cannot be separated by '\\n'" + SAY_SEPARATOR,
    ),
    "half a line end for a separator": (
        HEAD + "1,2,3\n",
        {"separator": "\r"},
        SeparatorError,
        "{path}: columns cannot be separated by '\\r'" + SAY_SEPARATOR,
    ),
    "an unclosed quote in the last row": (
        HEAD + '1,2,3\n1,"x,4\n1,3,5\n',
        {},
        FileFormatError,
        "{path}, line 3: a quote is opened and never closed; correct or remove it",
    ),
    "an unclosed quote in a column that is not read": (
        'user_id,item_id,rating,review\n1,2,3,fine\n1,4,4,"so-so\n1,3,5,bad\n',
        {},
        FileFormatError,
        "{path}, line 3: a quote is opened and never closed; correct or remove it",
    ),
    "two unclosed quotes": (
        'user_id,item_id,rating,review\n1,2,3,"so\nso"\n1,3,4,"open\n1,4,4,x\n1,5,5,"open too\n1,6,2,y\n',
        {},
        FileFormatError,
        "{path}, line 4: text after a closing quote, perhaps for a quote before it is never closed; correct or remove "
        "it",
    ),
    "a bad rating on the first line of a row of two": (
        'user_id,item_id,rating,review\n1,2,bad,"so\nso"\n',
        {},
        NotANumberError,
        "{path}, line 2: the rating is 'bad', not a number; correct or remove it",
    ),
    "a bad rating after a field that is longer than csv allows": (
        f"user_id,item_id,rating,review\n1,2,3,{'long ' * 30_000}\n1,4,bad,\n",
        {},
        NotANumberError,
        "{path}, line 3: the rating is 'bad', not a number; correct or remove it",
    ),
    "latin-1": (
        HEAD.encode() + b"Ren\xe9,2,3\n",
        {},
        EncodingError,
        "{path}, line 2 is not utf-8: save it as UTF-8" + SAY_ENCODING,
    ),
    "latin-1 in the header": (
        b"user_id,item_id,rating,pr\xe9nom\n1,2,3,4\n",
        {},
        EncodingError,
        "{path}, line 1 is not utf-8: save it as UTF-8" + SAY_ENCODING,
    ),
    "UTF-16 without its mark": (
        (HEAD + "1,2,3\n").encode("utf-16-le"),
        {},
        EncodingError,
        "{path} is not utf-8: save it as UTF-8" + SAY_ENCODING,
    ),
    "UTF-16": (
        (HEAD + "1,2,3\n").encode("utf-16"),
        {},
        EncodingError,
        "{path}, line 1 is not utf-8: save it as UTF-8" + SAY_ENCODING,
    ),
    "a bad character of UTF-16": (
        (HEAD + "1,2,3\nx").encode("utf-16") + b"\x00\xdc" + ",2,3\n".encode("utf-16-le"),
        {"encoding": "utf-16"},
        EncodingError,
        "{path}, line 3 is not utf-16: save it as UTF-8" + SAY_ENCODING,
    ),
    "no such encoding": (
        HEAD + "1,2,3\n",
        {"encoding": "klingon"},
        EncodingError,
        "{path} cannot be read as klingon: unknown encoding: klingon" + SAY_ENCODING,
    ),
    "a word for a rating": (
        HEAD + "1,2,3\n1,3,good\n\n2,3,bad\n",
        {},
        NotANumberError,
        "{path}, line 3: the rating is 'good', not a number (2 rows like this); correct or remove it",
    ),
    "a number with an underscore": (
        HEAD + "1,2,3\n1,3,1_000\n",
        {},
        NotANumberError,
        "{path}, line 3: the rating is '1_000', not a number; correct or remove it",
    ),
    "a decimal comma": (
        "user_id;item_id;rating\n1;2;3,5\n",
        {},
        NotANumberError,
        "{path}, line 2: the rating is '3,5', not a number: its comma should be a point; correct or remove it",
    ),
    "a decimal comma between commas": (
        HEAD + "1,2,3\n1,3,3,5\n",
        {},
        FileFormatError,
        "{path}, line 3: 4 fields instead of 3, perhaps for 3,5 has a comma where a point should be; correct or remove "
        "it",
    ),
    "a row too short": (
        HEAD + "1,2,3\n1,2\n",
        {},
        FileFormatError,
        "{path}, line 3: 2 fields instead of 3; correct or remove it",
    ),
    "no rating": (HEAD + "1,2,3\n1,3,\n", {}, NotFiniteError, "{path}, line 3: no rating; correct or remove it"),
    "NaN": (
        HEAD + "1,2,3\n1,3,nan\n",
        {},
        NotFiniteError,
        "{path}, line 3: the rating is 'nan', not a finite number; correct or remove it",
    ),
    "infinity": (
        HEAD + "1,2,-inf\n1,3,4\n",
        {},
        NotFiniteError,
        "{path}, line 2: the rating is '-inf', not a finite number; correct or remove it",
    ),
    "beyond float32": (
        HEAD + "1,2,1e39\n1,3,4\n",
        {},
        NotFiniteError,
        "{path}, line 2: the rating is '1e39', not a finite number; correct or remove it",
    ),
    "no user": (HEAD + "1,2,3\n ,3,4\n", {}, MissingIdError, "{path}, line 3: no user_id; correct or remove it"),
    "no item, after a review of two lines": (
        'user_id,item_id,rating,review\n1,2,3,"good\nindeed"\n1,,4,\n',
        {},
        MissingIdError,
        "{path}, line 4: no item_id; correct or remove it",
    ),
    "rated twice": (
        HEAD + "7,2,3\n1,2,3\n7,2,4\n7,2,5\n",
        {},
        DuplicateRatingError,
        "{path}: ratings of a (user, item) pair that was rated before: 2, the first by user 7 of item 2; keep one of "
        "each, or let read_ratings, load_movielens or saerec run do it: duplicates can be last or mean",
    ),
    "milliseconds": (
        "user_id,item_id,rating,when\n1,2,3,978300760\n1,3,4,978300760000\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first 978300760000 in row 2 (from 1, without the header); divide milliseconds by 1000",
    ),
    "an American date": (
        "user_id,item_id,rating,when\n1,2,3,12/31/2020\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first '12/31/2020' in row 1 (from 1, without the header); write them so",
    ),
    "a word among seconds": (
        "user_id,item_id,rating,when\n1,2,3,1580472000\n1,3,3,yesterday\n1,4,3,1580472000\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first 'yesterday' in row 2 (from 1, without the header); write them so",
    ),
    "now for a time": (
        "user_id,item_id,rating,when\n1,2,3,2020-01-31\n1,3,3,now\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first 'now' in row 2 (from 1, without the header); write them so",
    ),
    "a hexadecimal number for a time": (
        "user_id,item_id,rating,when\n1,2,3,5\n1,3,3,0x10\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}, line 3: the when is '0x10', not a time; correct or remove it",
    ),
    "a truth for a time": (
        "user_id,item_id,rating,when\n1,2,3,true\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first True in row 1 (from 1, without the header); write them so",
    ),
    "no time": (
        "user_id,item_id,rating,when\n1,2,3,5\n1,3,3,\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}, line 3: no when; correct or remove it",
    ),
    "more fields than columns, and no decimal comma": (
        HEAD + "1,2,3.5,4\n",
        {},
        FileFormatError,
        "{path}, line 2: 4 fields instead of 3; correct or remove it",
    ),
    "a number after whose end a non-breaking space stands": (
        HEAD + "1,2,3\n1,3,4\xa0\n",
        {},
        NotANumberError,
        "{path}, line 3: the rating is '4\\xa0', not a number; correct or remove it",
    ),
    "an Arabic digit": (
        HEAD + "1,2,٣\n",
        {},
        NotANumberError,
        "{path}, line 2: the rating is '٣', not a number; correct or remove it",
    ),
    "a long text for a rating": (
        HEAD + f"1,2,{'very ' * 100}\n",
        {},
        NotANumberError,
        "{path}, line 2: the rating is '" + ("very " * 100)[:79] + "…', not a number; correct or remove it",
    ),
    "a long line for a header": (
        "word " * 100 + "\n1,2,3\n",
        {},
        SeparatorError,
        "{path}, line 1: '" + ("word " * 100)[:79] + "…' is not divided into columns by comma, semicolon, tab, bar; "
        "correct or remove it" + SAY_SEPARATOR,
    ),
    "many columns, one of them with a long name": (
        ",".join(["a" * 50, *(f"c{i}" for i in range(2, 151))]) + "\n",
        {},
        MissingColumnError,
        "{path}, line 1: no column user_id, item_id, rating; there are: " + "a" * 39 + "…, c2, c3, c4, c5, c6, c7, c8, "
        "c9, c10, … (150); say which they are with user, item, rating and timestamp",
    ),
    "a date beyond the year 2262": (
        "user_id,item_id,rating,when\n1,2,3,2020-01-01\n1,3,3,9999-12-31\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first 9999-12-31 00:00:00 in row 2 (from 1, without the header); write them so",
    ),
    "years for times": (
        "user_id,item_id,rating,when\n1,2,3,2023\n1,3,3,2024\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: the values of when look like years, such as 2023, not like seconds since 1970: write dates like "
        "2026-01-31",
    ),
    "days of Excel for times": (
        "user_id,item_id,rating,when\n1,2,3,45302\n1,3,3,45303.5\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: the values of when look like days as spreadsheets count them, such as 45302.0, not like seconds since "
        "1970: write dates like 2026-01-31",
    ),
    "dates without dashes for times": (
        "user_id,item_id,rating,when\n1,2,3,20240111\n1,3,3,20231231\n",
        {"timestamp": "when"},
        TimestampError,
        "{path}: the values of when look like dates without dashes, such as 20240111, not like seconds since 1970: "
        "write dates like 2026-01-31",
    ),
    "an old workbook": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        {},
        FileFormatError,
        "{path} is an old Excel workbook, not text: export it as CSV",
    ),
    "bzip2": (bz2.compress(HEAD.encode()), {}, FileFormatError, "{path} is a bzip2 file, not text: unpack it"),
    "xz": (lzma.compress(HEAD.encode()), {}, FileFormatError, "{path} is an xz file, not text: unpack it"),
    "a picture": (b"\x89PNG\r\n\x1a\n", {}, FileFormatError, "{path} is a PNG picture, not text"),
    "a Feather file": (
        b"ARROW1\0\0\xff",
        {},
        FileFormatError,
        "{path} is a Feather file, not text: save it as Parquet",
    ),
    "JSON in one line": (
        '[{"user_id": 1, "item_id": 2, "rating": 3}' + ', {"user_id": 1}' * 9999 + "]",
        {},
        FileFormatError,
        "{path} is JSON, not a table: export it as CSV",
    ),
    "JSON in many lines": (
        '{\n  "user_id": [\n    1\n  ]\n}',
        {},
        FileFormatError,
        "{path} is JSON, not a table: export it as CSV",
    ),
    "a web page": (
        "\ufeff\n<!DOCTYPE html>\n<title>Log in, please</title>\n",
        {},
        FileFormatError,
        "{path} is a web page, not a table: download the file that it leads to",
    ),
    "a workbook": (
        b"PK\x03\x04 and so on",
        {},
        FileFormatError,
        "{path} is a zip archive or an Excel workbook, not text: export or unpack it as CSV",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(tmp_path, name):
    content, options, error, message = FILES[name]
    path = tmp_path / "ratings.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as raised:
        read_ratings(path, **options)
    assert (type(raised.value), str(raised.value)) == (error, message.format(path=path))


def test_damaged_compressed_and_parquet_files(tmp_path):
    whole = gzip.compress((HEAD + "1,2,3\n" * 1000).encode())
    for name, content, message in (
        ("cut.csv.gz", whole[:-30], "is damaged: "),
        ("not.csv.gz", b"user_id,item_id,rating\n", "is damaged: Not a gzipped file"),
        ("cut.parquet", b"PAR1 and so on", "is a damaged Parquet file: "),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError) as raised:
            read_ratings(tmp_path / name)
        assert str(raised.value).startswith(f"{tmp_path / name} {message}")


def ratings(**columns) -> pd.DataFrame:
    rows = {"user_id": [1, 1, 2, 2], "item_id": [5, 6, 5, 7], "rating": [1.0, 2.0, 4.0, 5.0]}
    return pd.DataFrame(rows | columns, index=[10, 11, 12, 13])


def fit(frame: pd.DataFrame, valid: pd.DataFrame | None = None) -> Recommender:
    return Recommender(hidden_dims=(2,), n_epochs=1).fit(frame, valid)


def described(features: pd.DataFrame) -> Recommender:
    return Recommender(hidden_dims=(2,), n_epochs=1).fit(ratings(), item_features=features)


# What is done, the error, and its message.
CALLS = {
    "a frame without ratings": (
        lambda: read_ratings(ratings().drop(columns="rating")),
        MissingColumnError,
        "the frame: no column rating; there are: user_id, item_id",
    ),
    "an empty frame": (
        lambda: read_ratings(ratings().iloc[:0]),
        EmptyDataError,
        "the frame: there are no ratings: the frame is empty",
    ),
    "ratings as text": (
        lambda: top_users_and_items(ratings(rating=pd.Series(list("1234"), index=[10, 11, 12, 13], dtype=object))),
        NotANumberError,
        "the column rating holds object, not numbers: convert it first, with .astype(float)",
    ),
    "truths for ratings": (
        lambda: read_ratings(ratings(rating=[True, False, True, True])),
        NotANumberError,
        "the frame: the column rating holds bool, not numbers: convert it first, with .astype(float)",
    ),
    "complex ratings": (
        lambda: RatingMatrix.from_frame(ratings(rating=[1j, 2, 3, 4])),
        NotANumberError,
        "the column rating holds complex128, not numbers: convert it first, with .astype(float)",
    ),
    "complex times": (
        lambda: read_ratings(ratings(when=[1j, 2, 3, 4]), timestamp="when"),
        TimestampError,
        "the frame: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 4, the first 1j at index 10; write them so",
    ),
    "ratings that are missing": (
        lambda: read_ratings(ratings(rating=[1, np.nan, 2, np.inf])),
        NotFiniteError,
        "the frame: missing or infinite ratings: 2, the first at index 11; drop or repair them",
    ),
    "ratings beyond float32": (
        lambda: read_ratings(ratings(rating=[1, 2, -1e39, 3])),
        NotFiniteError,
        "the frame: missing or infinite ratings: 1, the first at index 12; drop or repair them",
    ),
    "milliseconds before 1970": (
        lambda: read_ratings(ratings(when=[1, 2, -978300760000, 3]), timestamp="when"),
        TimestampError,
        "the frame: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 1, the first -978300760000 at index 12; divide milliseconds by 1000",
    ),
    "dates of a frame without dashes, as text": (
        lambda: read_ratings(ratings(when="20200131"), timestamp="when"),
        TimestampError,
        "the frame: the values of when look like dates without dashes, such as '20200131', not like seconds since "
        "1970: write dates like 2026-01-31",
    ),
    "a date of a frame beyond the year 2262": (
        lambda: read_ratings(
            ratings(when=pd.Series([pd.Timestamp("9999-12-31")] * 4, [10, 11, 12, 13])), timestamp="when"
        ),
        TimestampError,
        "the frame: values of when that are neither seconds since 1970 nor dates like 2026-01-31 12:00:00, up to the "
        "year 2262: 4, the first 9999-12-31 00:00:00 at index 10; write them so",
    ),
    "ratings that are missing, in columns of other names": (
        lambda: read_ratings(ratings(stars=["1", "2", "3", "4"]), rating="stars"),
        NotANumberError,
        "the frame: the column stars holds str, not numbers: convert it first, with .astype(float)",
    ),
    "users that are missing": (
        lambda: read_ratings(ratings(user_id=["a", None, "b", "c"])),
        MissingIdError,
        "the frame: ratings without user_id: 1, the first at index 11; drop or repair them",
    ),
    "two columns of ratings": (
        lambda: RatingMatrix.from_frame(pd.concat([ratings(), ratings()[["rating"]]], axis=1)),
        FileFormatError,
        "the ratings: several columns are called rating",
    ),
    "blank ids": (
        lambda: read_ratings(ratings(user_id=["a", " ", "b", ""])),
        MissingIdError,
        "the frame: ratings with a blank user_id: 2; drop or repair them",
    ),
    "titles of other items": (
        lambda: read_titles(pd.DataFrame({"item_id": ["A1"], "title": ["Ant"]}), pd.Series(["a1"])),
        UnknownIdError,
        "the frame: none of its ids with a title (1, for example 'A1') is among the rated ones, for example 'a1'",
    ),
    "ids with fractions": (
        lambda: fit(ratings(item_id=[1.5, 2, 3, 4])),
        IdTypeError,
        "the column item_id holds floating values: ids are whole numbers or text, all of one kind",
    ),
    "ids of two kinds": (
        lambda: read_ratings(ratings(user_id=[1, "1", 2, "2"])),
        IdTypeError,
        "the frame: the column user_id holds mixed-integer values: ids are whole numbers or text, all of one kind",
    ),
    "ids beyond 64 bits": (
        lambda: read_ratings(ratings(user_id=np.array([1, 2, 3, 2**63], dtype=np.uint64))),
        IdTypeError,
        "the frame: the column user_id holds numbers beyond 64 bits: make them text, with .astype(str)",
    ),
    "ids beyond 64 bits, of pyarrow": (
        lambda: read_ratings(ratings(user_id=pd.array([1, 2, 3, 2**63], dtype="uint64[pyarrow]"))),
        IdTypeError,
        "the frame: the column user_id holds numbers beyond 64 bits: make them text, with .astype(str)",
    ),
    "ids beyond 64 bits, categorical": (
        lambda: read_ratings(ratings(item_id=pd.Categorical([1, 2, 3, 2**70]))),
        IdTypeError,
        "the frame: the column item_id holds numbers beyond 64 bits: make them text, with .astype(str)",
    ),
    "columns that are numbers, one for two": (
        lambda: read_ratings(ratings().set_axis([0, 1, 2], axis=1), 0, 1, 1),
        MissingColumnError,
        "user, item, rating and timestamp are a column each, not 0, 1",
    ),
    "columns that are numbers, and not there": (
        lambda: read_ratings(ratings().set_axis([0, 1, 2], axis=1), 0, 1, 3),
        MissingColumnError,
        "the frame: no column 3; there are: 0, 1, 2",
    ),
    "titles that are blank": (
        lambda: read_titles(pd.DataFrame({"item_id": ["a"], "title": [" "]}), pd.Series(["a"])),
        UnknownIdError,
        "the frame: none of its ids with a title (0) is among the rated ones, for example 'a'",
    ),
    "titles of nothing": (
        lambda: read_titles(pd.DataFrame({"item_id": [1], "title": ["Ant"]}), pd.Series([])),
        EmptyDataError,
        "there are no ratings whose items could have titles",
    ),
    "titles of items of two kinds": (
        lambda: read_titles(None, pd.Series([1, "a"])),
        IdTypeError,
        "the column item_id holds mixed-integer values: ids are whole numbers or text, all of one kind",
    ),
    "titles of items that are missing": (
        lambda: read_titles(None, pd.Series(["a", None])),
        MissingIdError,
        "ratings without item_id: 1, the first at index 1; drop or repair them",
    ),
    "numbers in train, text in valid": (
        lambda: fit(ratings(), ratings(user_id=["1", "1", "2", "2"])),
        IdTypeError,
        "the column user_id holds mixed-integer values: ids are whole numbers or text, all of one kind",
    ),
    "features that are text": (
        lambda: described(pd.DataFrame({"genre": ["a", "b"]}, index=[5, 6], dtype=object)),
        NotANumberError,
        "the item feature genre holds object, not numbers: pandas.get_dummies makes flags",
    ),
    "features that are missing": (
        lambda: described(pd.DataFrame({"year": [1.0, np.nan]}, index=[5, 6])),
        NotFiniteError,
        "items with missing or infinite features: 1, the first at index 6; fill or drop them",
    ),
    "an item described twice": (
        lambda: described(pd.DataFrame({"year": [1.0, 2.0]}, index=[5, 5])),
        DuplicateItemError,
        "items described twice: 1, the first at index 5; keep one of each",
    ),
    "features of other items": (
        lambda: described(pd.DataFrame({"year": [1.0, 2.0]})),
        UnknownIdError,
        "none of the 2 items described has a rating: the index of the features is to hold item ids",
    ),
    "rated twice": (
        lambda: RatingMatrix.from_frame(ratings(user_id=[1, 1, 1, 1])),
        DuplicateRatingError,
        "ratings of a (user, item) pair that was rated before: 1, the first by user 1 of item 5; keep one of "
        "each, or let read_ratings, load_movielens or saerec run do it: duplicates can be last or mean",
    ),
    "rated in train and valid": (
        lambda: fit(ratings(), ratings().iloc[:1]),
        DuplicateRatingError,
        "train and valid have ratings in common, and what is known cannot tell which epoch is best: "
        "saerec.split_ratings divides ratings into both",
    ),
    "a cut that leaves nothing": (
        lambda: top_users_and_items(
            ratings(user_id=[1, 1, 2, 3], item_id=[5, 6, 7, 7]).sort_index(ascending=False), n_users=1, n_items=1
        ),
        NothingLeftError,
        "none of the 1 most active users rated any of the 1 most rated items: ask for more of either",
    ),
    "a split that leaves nothing": (
        lambda: split_ratings(ratings().iloc[:1]),
        NothingLeftError,
        "a share of 0.2 of the ratings is all of them (1): nothing is left",
    ),
    "a split by time of users with too few": (
        lambda: split_ratings(ratings(timestamp=[1, 2, 3, 4]), by="time"),
        NothingLeftError,
        "no user has enough ratings to hold out a share of 0.2: the most active has 2",
    ),
    "a split by time without times": (
        lambda: split_ratings(ratings(), by="time"),
        MissingColumnError,
        "by='time': no column timestamp; there are: user_id, item_id, rating",
    ),
    "one user": (
        lambda: fit(ratings(user_id=[1, 1, 1, 1], item_id=[1, 2, 3, 4])),
        OneUserError,
        "all 4 ratings are by user 1: what people have in common takes at least two users and two items",
    ),
    "one item": (
        lambda: fit(ratings(user_id=[1, 2, 3, 4], item_id=["x"] * 4)),
        OneItemError,
        "all 4 ratings are of item 'x': what people have in common takes at least two users and two items",
    ),
    "equal ratings": (
        lambda: fit(ratings(rating=[1, 1, 1, 1])),
        ConstantRatingsError,
        "all 4 ratings are 1: there is no taste to learn from ratings that are all equal; if they only say who bought "
        "what, they are not ratings",
    ),
    "an unknown user": (
        lambda: fit(ratings()).recommend([3]),
        UnknownIdError,
        "user 3 was not in the data this recommender was fitted to (2 users, for example 1); for somebody new there is "
        "recommend_new",
    ),
    "an unknown item": (
        lambda: fit(ratings()).recommend_new({9: 5.0}),
        UnknownIdError,
        "item 9 was not in the data this recommender was fitted to (3 items)",
    ),
    "a user and an item of a matrix that lacks them": (
        lambda: RatingMatrix.from_frame(ratings(), user_ids=[1, 2], item_ids=[5, 6]),
        UnknownIdError,
        "ratings whose item_id the given ids lack: 1, the first has 7",
    ),
    "a list of none": (
        lambda: fit(ratings()).recommend([1], k=0),
        ListLengthError,
        "k must be a whole number of at least 1, not 0",
    ),
    "a list of two and a half": (
        lambda: fit(ratings()).recommend_new({5: 5.0}, k=2.5),
        ListLengthError,
        "k must be a whole number of at least 1, not 2.5",
    ),
    "text asked of numbers": (
        lambda: fit(ratings()).predict(["1"], [5]),
        IdTypeError,
        "the user_ids are of type string, those of the data integer: convert them",
    ),
    "the list of a text, of numbers": (
        lambda: fit(ratings()).recommend(["1"]),
        IdTypeError,
        "the user_ids are of type string, those of the data integer: convert them",
    ),
    "an error of nobody": (
        lambda: user_rmse([1, 2], [1, 2], [1, np.nan]),
        MissingIdError,
        "a rating has no user_id: every rating must count, none be left out",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call(name):
    call, error, message = CALLS[name]
    with pytest.raises(DataError) as raised:
        call()
    assert (type(raised.value), str(raised.value)) == (error, message)


@pytest.mark.parametrize(
    "call",
    [
        fit,
        lambda frame: Recommender().fit(ratings(), frame),
        lambda frame: fit(ratings()).evaluate(frame),
        RatingMatrix.from_frame,
        split_ratings,
        top_users_and_items,
        describe_ratings,
        cross_validate,
    ],
)
def test_ratings_are_a_frame(call):
    with pytest.raises(TypeError, match="are a DataFrame with the columns user_id, item_id, rating, not of ndarray"):
        call(ratings().to_numpy())


def test_every_cause_is_in_the_tables():
    errors = {error for error in vars(validation).values() if isinstance(error, type) and issubclass(error, DataError)}
    assert errors - {DataError} == {row[2] for row in FILES.values()} | {row[1] for row in CALLS.values()}


def test_a_user_or_an_item_without_a_training_rating_is_no_error():
    """Such a pair is scored by what is known: the mean, and the bias of the other."""
    known = fit(ratings())
    mean, bias = known.baseline.mean, known.baseline.user_bias[0]
    np.testing.assert_allclose(known.predict([3, 1], [8, 8]), [mean, mean + bias], rtol=1e-6)
    assert known.evaluate(ratings(user_id=[3, 4, 5, 6]))["rmse"] > 0


@pytest.mark.parametrize("ask", [lambda b: b.predict([0], [0]), lambda b: b.new_user_bias([0], [1.0]), lambda b: b.T])
def test_a_baseline_that_was_not_fitted_says_so(ask):
    with pytest.raises(ValueError, match="this BiasBaseline has not been fitted yet: call fit first"):
        ask(BiasBaseline())


def test_duplicates_are_resolved_as_asked():
    frame = pd.DataFrame(
        {
            "user_id": ["a", "b", "a", "a"],
            "item_id": [1, 1, 1, 2],
            "rating": np.float32([1, 2, 4, 5]),
            "timestamp": [30, 10, 20, 40],
        }
    )
    last = resolve_duplicates(frame, "last")
    assert last.to_dict("list") == {
        "user_id": ["a", "b", "a"],
        "item_id": [1, 1, 2],
        "rating": [1, 2, 5],
        "timestamp": [30, 10, 40],
    }
    assert resolve_duplicates(frame.assign(timestamp=30), "last")["rating"].tolist() == [2, 4, 5]
    assert resolve_duplicates(frame.drop(columns="timestamp"), "last")["rating"].tolist() == [2, 4, 5]
    mean = resolve_duplicates(frame, "mean")
    assert mean.to_dict("list") == {
        "user_id": ["a", "b", "a"],
        "item_id": [1, 1, 2],
        "rating": [2.5, 2, 5],
        "timestamp": [30, 10, 40],
    }
    pd.testing.assert_series_equal(mean.dtypes, frame.dtypes)
    assert resolve_duplicates(frame.assign(timestamp=[20, 10, 30, 40]), "mean")["timestamp"].tolist() == [30, 10, 40]
    assert last.index.tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(resolve_duplicates(frame.set_axis([9, 7, 7, 1]), "last"), last)
    many = pd.DataFrame({"user_id": 1, "item_id": 2, "rating": np.arange(1000.0), "timestamp": np.arange(1000) % 7})
    assert resolve_duplicates(many, "last")["rating"].tolist() == [999 - 999 % 7 - 1]
    with pytest.raises(ValueError, match="duplicates must be 'error', 'last' or 'mean', not 'first'"):
        resolve_duplicates(frame, "first")


@pytest.mark.parametrize("dtype", ["int64", "uint64", "str"])
def test_doubled_pairs_are_found_whatever_the_ids_are(dtype):
    pairs = pd.DataFrame({"user_id": [0, 2, 3, 2, 2**40], "item_id": [5, 2**50, 5, 2**50, 0]}).astype(dtype)
    if dtype == "str":
        pairs = "a" + pairs
    with pytest.raises(DuplicateRatingError, match=r"before: 1, the first by user ('a)?2'? of item"):
        resolve_duplicates(pairs.assign(rating=1.0), "error")
    once = pairs.iloc[:3].assign(rating=1.0)
    assert resolve_duplicates(once, "error") is once


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no file nowhere\.csv$"):
        read_ratings(Path("nowhere.csv"))
    with pytest.raises(FileFormatError) as raised:
        read_ratings(tmp_path)
    folder = f"{tmp_path} is a folder, not a file; that of a MovieLens release is for load_movielens"
    assert str(raised.value) == folder


def test_what_is_wrong_with_a_parquet_file_is_said_in_its_own_names_and_rows(tmp_path):
    path = tmp_path / "shop.parquet"
    rows = pd.DataFrame({"customer": ["a", None, "b"], "product": [1, 2, 3], "stars": [1.0, 2.0, 3.0]})
    rows.to_parquet(path)
    with pytest.raises(MissingIdError) as raised:
        read_ratings(path, "customer", "product", "stars")
    where = "in row 2 (from 1, without the header); drop or repair them"
    assert str(raised.value) == f"{path}: ratings without customer: 1, the first {where}"
    rows.assign(customer=["a", " ", "b"], stars=["1", "2", "3"]).to_parquet(path)
    with pytest.raises(NotANumberError, match="the column stars holds"):
        read_ratings(path, "customer", "product", "stars")
    with pytest.raises(MissingIdError, match="ratings with a blank customer: 1"):
        read_ratings(path, "customer", "stars", "product")


def test_a_zip_archive_of_several_files_is_not_read(tmp_path):
    path = tmp_path / "shop.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", HEAD + "1,2,3\n")
        archive.writestr("b.csv", HEAD + "1,2,3\n")
    with pytest.raises(FileFormatError, match="is a zip archive or an Excel workbook, not text: export or unpack it"):
        read_ratings(path)

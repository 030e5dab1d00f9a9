"""Whatever a file holds, a reader ends in a frame or in an error of ours."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from saerec import DataError, load_movielens, read_ratings, read_titles
from saerec.tables import INT_ID, RATING, TEXT, _count, read_text, write_parts, write_table

HEADER = "user_id,item_id,rating,when\n"
FIELDS = st.one_of(
    st.sampled_from(
        ["1", "-7", "007", "3.5", "1e39", "nan", "", " ", '"', '"a,b"', "\x00", "é", "1_000", "9" * 20, "a::b"]
    ),
    st.text(max_size=6),
)
LINES = st.lists(FIELDS, max_size=8).flatmap(lambda fields: st.sampled_from([sep.join(fields) for sep in ",;\t|:"]))
TEXTS = st.lists(LINES, max_size=6).map("\n".join)
CONTENTS = st.one_of(
    TEXTS.map(str.encode),
    TEXTS.map(lambda text: (HEADER + text).encode()),
    st.tuples(TEXTS, st.sampled_from(["utf-16", "latin-1", "utf-8-sig"])).map(
        lambda pair: (HEADER + pair[0]).encode(pair[1], errors="replace")
    ),
    st.binary(max_size=60),
    st.binary(max_size=40).map(lambda rest: HEADER.encode() + rest),
    st.binary(max_size=40).map(lambda rest: b"PAR1" + rest),
)
anything = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@anything
@given(
    content=CONTENTS,
    name=st.sampled_from(["r.csv", "r.csv.gz"]),
    timestamp=st.sampled_from([None, "when"]),
    compressed=st.booleans(),
)
@example(content=HEADER.encode() + b'1,2,3,"open', name="r.csv", timestamp=None, compressed=False)
@example(content=HEADER.encode() + b"1,2,3,4\r2,2,3,4\r", name="r.csv", timestamp="when", compressed=False)
@example(content=HEADER.encode() + b"1,2,3,99999999999999999999\n", name="r.csv", timestamp="when", compressed=False)
def test_any_content_of_a_file_of_ratings(tmp_path, content, name, timestamp, compressed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") and compressed else content)
    try:
        frame = read_ratings(path, timestamp=timestamp)
    except DataError as error:
        assert str(path) in str(error)
        return
    assert len(frame) > 0
    assert np.isfinite(frame["rating"]).all()
    assert not frame.isna().any().any()
    assert not frame.duplicated(["user_id", "item_id"]).any()


@anything
@given(content=CONTENTS)
def test_any_content_of_a_file_of_titles(tmp_path, content):
    path = tmp_path / "titles.csv"
    path.write_bytes(content)
    try:
        titles = read_titles(path, pd.Series([1, 7]), item="item_id", title="when")
    except DataError as error:
        assert str(path) in str(error)
        return
    assert titles["item_id"].tolist() == [1, 7]
    assert titles["title"].map(type).eq(str).all()


@anything
@given(
    ratings=st.sampled_from(["ratings.csv", "ratings.csv.gz", "ratings.dat", "u.data"]),
    movies=st.sampled_from(["movies.csv", "movies.dat", "u.item"]),
    header=st.booleans(),
    contents=st.tuples(CONTENTS, CONTENTS),
    good=st.sampled_from(["ratings", "movies", "none"]),
)
def test_any_content_of_the_files_of_movielens(tmp_path, ratings, movies, header, contents, good):
    for name in ("ratings.csv", "ratings.csv.gz", "ratings.dat", "u.data", "movies.csv", "movies.dat", "u.item"):
        (tmp_path / name).unlink(missing_ok=True)
    headers = {"ratings.csv": "userId,movieId,rating,timestamp\n", "movies.csv": "movieId,title,genres\n"}
    for name, content in zip((ratings, movies), contents):
        content = headers.get(name.removesuffix(".gz"), "").encode() * header + content
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    if good == "ratings":
        (tmp_path / ratings).unlink()
        (tmp_path / "u.data").write_bytes(b"1\t2\t3\t4\n")
    if good == "movies":
        (tmp_path / movies).unlink()
        (tmp_path / "movies.csv").write_bytes(b"movieId,title,genres\n2,Heat,Crime\n")
    try:
        data = load_movielens(tmp_path)
    except DataError as error:
        assert str(tmp_path) in str(error)
        return
    assert len(data.ratings) and len(data.movies)
    assert np.isfinite(data.ratings["rating"]).all()
    assert not data.ratings.isna().any().any()


@anything
@given(
    ids=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r\n"), min_size=1).filter(
                lambda text: text.strip() == text
            ),
            st.integers(-(10**17), 10**17),
        ),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    data=st.data(),
)
def test_what_pandas_wrote_is_read_back(tmp_path, ids, data):
    ratings = data.draw(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=len(ids), max_size=len(ids))
    )
    users, items = zip(*ids)
    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": np.float32(ratings)})
    for name, write in (("r.csv", frame.to_csv), ("r.parquet", frame.to_parquet)):
        write(tmp_path / name, index=False)
        back = read_ratings(tmp_path / name)
        assert back["user_id"].astype(str).tolist() == list(users)
        assert back["item_id"].tolist() == list(items)
        np.testing.assert_array_equal(back["rating"], frame["rating"])


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_any_damage_to_a_parquet_file_is_an_error_of_ours_or_read(tmp_path, compression):
    rows = pd.DataFrame(
        {"user_id": [f"user {i}" for i in range(40)], "item_id": range(40), "rating": np.arange(40) / 8}
    )
    path = tmp_path / "r.parquet"
    rows.to_parquet(path, index=False, compression=compression)
    whole = path.read_bytes()
    for position in range(4, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert len(read_ratings(path))
        except DataError as error:
            assert str(path) in str(error)


def test_a_separator_may_be_several_characters(tmp_path):
    path = tmp_path / "ratings.txt"
    path.write_text("user_id::item_id::rating\n1::a:b::3\n2::c::4.5\n")
    assert read_ratings(path, separator="::")["item_id"].tolist() == ["a:b", "c"]
    path.write_text("user_id::item_id::rating\n1::a::3\n2::c\n")
    with pytest.raises(DataError, match="line 3: 2 fields instead of 3"):
        read_ratings(path, separator="::")


def test_fields_may_hold_separators_quotes_and_lines(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('\n id , title ,more\n1,"a, ""b""\nand c",x\n\n2,d,y\n', encoding="utf-8")
    frame = read_text(path, {"title": TEXT, "id": INT_ID})
    assert frame.to_dict("list") == {"title": ['a, "b"\nand c', "d"], "id": [1, 2]}


def test_a_quote_within_a_field_is_ordinary_text(tmp_path):
    """And so is one half of a character: U+2212 is 22 12 in UTF-16."""
    path = tmp_path / "table.csv"
    for text in ('id,title\n1,5" disk\n2,d\n', "id,title\n1,\u2212\n2,d\n"):
        path.write_text(text, encoding="utf-16")
        frame = read_text(path, {"title": TEXT, "id": INT_ID}, encoding="utf-16")
        assert frame["title"].tolist() == [text[11:].partition("\n")[0], "d"]


def test_a_field_may_be_longer_than_what_is_read_at_once(tmp_path):
    """Blocks of a megabyte are read; a line end within quotes must not end a block there."""
    path = tmp_path / "table.csv"
    review = '"' + 40 * "word\n" + '"'
    path.write_text("id,review\n" + "".join(f"{i},{review}\n" for i in range(12_000)))
    frame = read_text(path, {"id": INT_ID})
    assert frame["id"].tolist() == list(range(12_000))
    assert path.stat().st_size > 2_000_000


def test_the_line_of_a_bad_row_is_that_of_the_file(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text('\nuser_id,item_id,rating,review\n1,2,3,"a\nb\nc"\n\n1,3,x,d\n1,4,y,e\n')
    with pytest.raises(DataError, match=r"line 7: the rating is 'x', not a number \(2 rows like this\)"):
        read_ratings(path)


def test_whole_numbers_may_begin_with_many_zeros(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"id,rating\n{'0' * 24}1,3\n-2,4\n")
    assert read_text(path, {"id": INT_ID, "rating": RATING})["id"].tolist() == [1, -2]
    path.write_text(f"id,rating\n{'0' * 24}1,3\n-2,bad\n")
    with pytest.raises(DataError, match=r"line 3: the rating is 'bad', not a number; correct"):
        read_text(path, {"id": INT_ID, "rating": RATING})
    for large in (2**63, -(2**64), "9" * 5000):
        path.write_text(f"id,rating\n1,3\n{large},4\n")
        with pytest.raises(DataError, match=r"line 3: the id is '.*', not a whole number; correct"):
            read_text(path, {"id": INT_ID, "rating": RATING})


def test_what_csv_allows_is_what_it_was(tmp_path):
    path, allowed = tmp_path / "table.csv", csv.field_size_limit()
    path.write_text("id,t\nbad,3\n")
    with pytest.raises(DataError, match="line 2"):
        read_text(path, {"id": INT_ID})
    assert csv.field_size_limit() == allowed


def test_hexadecimal_numbers_are_no_whole_numbers(tmp_path):
    """pyarrow takes them for numbers, and what looks like one within a title must not be taken for one."""
    path = tmp_path / "table.csv"
    path.write_text("id,title\n15,0x10 (1999)\n16,b\n")
    assert read_text(path, {"id": INT_ID, "title": TEXT})["id"].tolist() == [15, 16]
    path.write_text("id,title\n15,a\n0X1f,b\n")
    with pytest.raises(DataError, match=r"line 3: the id is '0X1f', not a whole number"):
        read_text(path, {"id": INT_ID, "title": TEXT})


def test_bytes_are_counted_across_the_blocks_that_are_read(tmp_path):
    path = tmp_path / "big.csv"
    path.write_bytes(b"0X" + b"a" * (2**24 - 3) + b"0x" + b"0x")
    assert (_count(path, b"0x", b"0X"), _count(path, b"0"), _count(path, b"x")) == (3, 3, 2)


def test_a_path_may_be_text_or_a_path(tmp_path):
    (tmp_path / "r.csv").write_text("user_id,item_id,rating\n1,2,3\n")
    for path in (tmp_path / "r.csv", str(tmp_path / "r.csv"), Path(tmp_path, "r.csv")):
        assert len(read_ratings(path)) == 1


class TestWriteTable:
    FORMULAS = (
        "=1",
        "=1.5",
        "＝1+1",
        "＋1",
        "－1",
        "＠SUM(A1)",
        "=1+1",
        "+1+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        '=HYPERLINK("http://x")',
    )

    @pytest.mark.parametrize("text", FORMULAS)
    @pytest.mark.parametrize("write", [write_table, lambda path, frame: write_parts(path, [frame, frame])])
    def test_what_a_spreadsheet_would_compute_is_made_text(self, tmp_path, text, write):
        frame = pd.DataFrame({"title": [text, "A film"], "n": [-1, 2]})
        write(tmp_path / "a.csv", frame)
        written = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
        assert written["title"].tolist()[:2] == [f"'{text}".replace("\r", " ").replace("\t=", "\t'="), "A film"]
        assert frame["title"].tolist() == [text, "A film"]

    def test_row_labels_and_names_of_columns_too(self, tmp_path):
        write_table(tmp_path / "a.csv", pd.DataFrame({"=a": [1]}, index=["=b"]))
        assert (tmp_path / "a.csv").read_text() == ",'=a\n'=b,1\n"

    def test_rows_of_several_labels_too(self, tmp_path):
        index = pd.MultiIndex.from_tuples([("=b", 2), ("c", -3)], names=["=x", "y"])
        frame = pd.DataFrame({"a": [1, 2]}, index=index)
        write_table(tmp_path / "a.csv", frame)
        assert (tmp_path / "a.csv").read_text() == "'=x,y,a\n'=b,2,1\nc,-3,2\n"
        assert frame.index is index and list(index.names) == ["=x", "y"]

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("a;=1+1", "a;'=1+1"),
            ("a; @B", "a; '@B"),
            ('a|"=1', "a|\"'=1"),
            ("a;b=1|c", "a;b=1|c"),
            ("x\t-1", "x\t'-1"),
            ("a;＝1", "a;'＝1"),
        ],
    )
    def test_what_other_separators_would_make_a_formula(self, tmp_path, text, written):
        write_table(tmp_path / "a.csv", pd.DataFrame({"title": [text]}))
        assert pd.read_csv(tmp_path / "a.csv", index_col=0)["title"].tolist() == [written]

    def test_everything_else_is_as_pandas_writes_it(self, tmp_path):
        frame = pd.DataFrame(
            {
                "id": ["-5", "+7.5", "a=b", None],
                "score": np.array([-1.5, np.nan, 3, 4], dtype=np.float32),
                "n": pd.array([1, None, -3, 4], dtype="Int64"),
                "when": pd.to_datetime(["2020-01-01", None, "2021-02-03", "2022-03-04"]),
                "liked": [True, False, True, False],
            }
        )
        for options in ({}, {"index": False, "float_format": "%.3f"}):
            frame.to_csv(tmp_path / "b.csv", **options)
            write_table(tmp_path / "a.csv", frame, **options)
            assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
        write_table(tmp_path / "a.parquet", frame)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame)

    def test_it_is_whole_or_not_there(self, tmp_path, monkeypatch):
        write_table(tmp_path / "a.csv", pd.DataFrame({"a": [1]}))

        def fail(self, path, **_):
            path.write_text("half")
            raise OSError("disk full")

        monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
        with pytest.raises(OSError, match="disk full"):
            write_table(tmp_path / "a.csv", pd.DataFrame({"a": [2]}))
        assert (tmp_path / "a.csv").read_text() == ",a\n0,1\n"
        with pytest.raises(ValueError, match=r"ends neither in \.csv nor in \.parquet"):
            write_table(tmp_path / "a.xlsx", pd.DataFrame())

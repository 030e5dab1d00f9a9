"""Ratings of one's own: any ids, any scale, any names of columns, from files and frames."""

import gzip
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from saerec import DataError, Dataset, Recommender, read_ratings, read_titles
from saerec.validation import EncodingError

TEXT = """customer;product;score;when;review
c1;0042;-10;2020-01-31 12:00:00;good
c2;7;0;2020-01-31 13:00:00;"fair; or not"
c1;7;9.5;1969-12-31 23:59:59;bad
"""
NAMES = ("customer", "product", "score", "when")
TIDY = pd.DataFrame(
    {
        "user_id": pd.Series(["c1", "c2", "c1"], dtype=str),
        "item_id": pd.Series(["0042", "7", "7"], dtype=str),
        "rating": np.float32([-10, 0, 9.5]),
        "timestamp": [1580472000, 1580475600, -1],
    }
)


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("name", ["shop.csv", "shop.csv.gz", "gzip.csv", "shop.zip"])
def test_a_text_file(tmp_path, separator, name):
    text = TEXT.replace(";", separator)
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if "gz" in name else text.encode())
    if name == "shop.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/inner/._shop.csv", b"\0\5")
            archive.writestr("inner/", "")
            archive.writestr("inner/shop.csv", text)
    assert_frame_equal(read_ratings(path, *NAMES), TIDY)
    assert_frame_equal(read_ratings(path, *NAMES[:3]), TIDY.drop(columns="timestamp"))


def test_other_encodings_separators_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "shop.txt"
    text = TEXT.replace("c1", "Renée").replace(";", "^")
    for encoding, options in (
        ("latin-1", {"encoding": "latin-1"}),
        ("utf-16", {"encoding": "utf-16"}),
        ("utf-8-sig", {}),
    ):
        path.write_bytes(text.encode(encoding))
        read = read_ratings(path, *NAMES, separator="^", **options)
        assert_frame_equal(read, TIDY.assign(user_id=pd.Series(["Renée", "c2", "Renée"], dtype=str)))


def test_parquet_and_frames(tmp_path):
    frame = TIDY.set_axis(NAMES, axis=1).assign(when=pd.to_datetime(TIDY["timestamp"], unit="s"), other=1)
    frame.index = [5, 5, 9]
    copy = frame.copy()
    frame.to_parquet(tmp_path / "shop.pq")
    assert_frame_equal(read_ratings(tmp_path / "shop.pq", *NAMES), TIDY)
    assert_frame_equal(read_ratings(frame, *NAMES), TIDY)
    assert_frame_equal(read_ratings(frame.astype({"customer": "category"}), *NAMES), TIDY)
    numbered = frame.set_axis([3, 1, 2, 0, "other"], axis=1)
    assert_frame_equal(read_ratings(numbered, 3, 1, 2, 0), TIDY)
    assert_frame_equal(frame, copy)
    frame.assign(score=[Decimal("-10.0"), Decimal("0.0"), Decimal("9.5")]).to_parquet(tmp_path / "shop.pq")
    assert_frame_equal(read_ratings(tmp_path / "shop.pq", *NAMES), TIDY)


@pytest.mark.parametrize("source", ["file", "frame"])
def test_doubled_ratings_are_resolved_as_asked(tmp_path, source):
    frame = pd.DataFrame({"user_id": 1, "item_id": 2, "rating": [4.0, 2.0, 3.0], "t": [30, 50, 40]})
    frame.to_csv(tmp_path / "r.csv", index=False)
    for duplicates, rating in (("last", 2), ("mean", 3)):
        read = read_ratings(frame if source == "frame" else tmp_path / "r.csv", timestamp="t", duplicates=duplicates)
        assert read.to_numpy().tolist() == [[1, 2, rating, 50]]


def test_the_line_of_excel_that_names_the_separator_is_skipped(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\n" + TEXT.replace("\n", "\r\n").encode())
    assert_frame_equal(read_ratings(path, *NAMES), TIDY)
    path.write_text("sep=;\nuser_id;item_id;rating\n1;2;3\n1;3;x\n")
    with pytest.raises(DataError, match="line 4: the rating is 'x'"):
        read_ratings(path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1", "-2", "30"], [1, -2, 30]),
        ([" 1", "2 ", "3"], [1, 2, 3]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["1.0", "2.0", "3.0"], ["1.0", "2.0", "3.0"]),
        (["1", "NA", "None"], ["1", "NA", "None"]),
        (["99999999999999999999", "1", "2"], ["99999999999999999999", "1", "2"]),
        (["-0", "1", "2"], ["-0", "1", "2"]),
        (["true", " a b ", "é"], ["true", "a b", "é"]),
    ],
)
def test_ids_are_numbers_only_if_written_as_numbers_are(tmp_path, written, read):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n" + "".join(f"{user},1,3\n" for user in written), encoding="utf-8")
    users = read_ratings(path)["user_id"]
    assert users.tolist() == read
    assert users.dtype == (np.int64 if isinstance(read[0], int) else pd.Series(["a"], dtype=str).dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "Int64", "category"])
def test_whole_numbers_of_any_kind_are_ids(dtype):
    frame = pd.DataFrame({"user_id": pd.Series([3, 1, 3]).astype(dtype), "item_id": [1, 1, 2], "rating": [1, 2, 3]})
    users = read_ratings(frame)["user_id"]
    assert (users.dtype, users.tolist()) == (np.int64, [3, 1, 3])


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["1580472000", "0"], [1580472000, 0]),
        (["1899", "2000"], [1899, 2000]),  # such as a counter: not all look like years
        (["1580472000.75", "-0.5"], [1580472000, -1]),
        (["2020-01-31", "1970-01-01"], [1580428800, 0]),
        (["2020-01-31T12:00:00Z", "1970-01-01T01:00:00+01:00"], [1580472000, 0]),
        (["2020-01-31 12:00:00.5", "1970-01-01 00:00:00"], [1580472000, 0]),
    ],
)
def test_times_are_seconds_or_dates(tmp_path, times, seconds):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating,t\n" + "".join(f"{i},1,3,{time}\n" for i, time in enumerate(times)))
    read = read_ratings(path, timestamp="t")["timestamp"]
    assert (read.dtype, read.tolist()) == (np.int64, seconds)


class TestReadTitles:
    def test_join_on_the_text_of_the_id(self, tmp_path):
        path = tmp_path / "titles.csv"
        path.write_text("title,item_id\nFirst,7\nSecond, 8\nAgain,7\nUnrated,9\n")
        said = "titles.csv: 1 of 3 rated items have no title in it, for example '11'; their ids stand for titles$"
        with pytest.warns(UserWarning, match=said):
            titles = read_titles(path, pd.Series([8, 7, 11, 7]))
        expected = {"item_id": [7, 8, 11], "title": ["First", "Second", "11"], "genres": ["", "", ""]}
        assert titles.drop(columns="year").to_dict("list") == expected
        path.write_text("title,item_id\n ,7\nSecond,8\n")
        with pytest.warns(UserWarning, match="1 of 2 rated items have no title in it, for example '7'"):
            assert read_titles(path, pd.Series([8, 7]))["title"].tolist() == ["7", "Second"]
        assert titles["year"].isna().all() and titles["year"].dtype == pd.Int16Dtype()
        with pytest.warns(UserWarning, match="1 of 2 rated items have no title in it, for example '08'"):
            assert read_titles(path, pd.Series(["08", "8"]))["title"].tolist() == ["08", "Second"]

    def test_whole_numbers_may_be_written_as_floats(self, tmp_path):
        path = tmp_path / "titles.csv"
        path.write_text("title,item_id\nFirst,7.0\nSecond,80\n")
        assert read_titles(path, pd.Series([80, 7]))["title"].tolist() == ["First", "Second"]
        frame = pd.DataFrame({"item_id": [7.0, np.nan], "title": ["First", "?"]})
        assert read_titles(frame, pd.Series([7]))["title"].tolist() == ["First"]
        assert read_titles(path, pd.Series(["7.0", "80"]))["title"].tolist() == ["First", "Second"]

    def test_in_another_encoding_and_with_another_separator(self, tmp_path):
        path = tmp_path / "titles.csv"
        path.write_bytes("item_id^title\n7^Café\n".encode("cp1252"))
        assert read_titles(path, pd.Series([7]), separator="^", encoding="cp1252")["title"].tolist() == ["Café"]

    def test_from_parquet_and_frames(self, tmp_path):
        frame = pd.DataFrame({"product": [7, 8], "name": ["A", None]})
        frame.to_parquet(tmp_path / "titles.parquet")
        for source in (frame, tmp_path / "titles.parquet"):
            with pytest.warns(UserWarning, match="1 of 2 rated items have no title"):
                assert read_titles(source, pd.Series([8, 7]), "product", "name")["title"].tolist() == ["A", "8"]

    def test_without_a_file_ids_are_titles(self):
        assert read_titles(None, pd.Series(["b", "a", "b"]))["title"].tolist() == ["a", "b"]

    def test_a_frame_without_the_columns(self):
        with pytest.raises(ValueError, match="the frame: no column title; there are: item_id"):
            read_titles(pd.DataFrame({"item_id": [1]}), pd.Series([1]))


@pytest.mark.parametrize("orientation", ["item", "user"])
def test_every_scale_is_served_alike(parts, orientation):
    """Ratings of -10 to 10 get the predictions of the same ratings in stars, stretched and shifted."""

    def fit(train, valid) -> Recommender:
        return Recommender(orientation=orientation, hidden_dims=(8,), n_epochs=5, batch_size=8).fit(train, valid)

    train, valid, test = parts
    of_stars = fit(train, valid)
    assert of_stars.scale == (0.5, 5)
    stretched = [frame.assign(rating=(frame["rating"] - 2.75) * (20 / 4.5)) for frame in (train, valid)]
    of_points = fit(*stretched)
    stars, points = (rec.predict(test["user_id"], test["item_id"]) for rec in (of_stars, of_points))
    np.testing.assert_allclose(points, (stars - 2.75) * (20 / 4.5), atol=2e-3)
    assert stars.std() > 0.1
    new = dict(zip(of_stars.item_ids[:4], [5.0, 0.5, 4.0, 3.0]))
    rows = (np.array([0, 3]), np.float32([5, 1]), np.arange(6))
    in_points = (rows[0], (rows[1] - 2.75) * (20 / 4.5), rows[2])
    influence = of_stars._predictor.influence(*rows) * (20 / 4.5)
    np.testing.assert_allclose(of_points._predictor.influence(*in_points), influence, atol=2e-3)
    assert np.abs(influence).max() > 0.05
    tiny = fit(*(frame.assign(rating=frame["rating"] * 1e-5) for frame in (train, valid)))
    np.testing.assert_allclose(tiny.predict(test["user_id"], test["item_id"]) * 1e5, stars, atol=2e-3)
    lists = [of_stars.recommend_new(new), of_points.recommend_new({i: (r - 2.75) * (20 / 4.5) for i, r in new.items()})]
    assert lists[0]["item_id"].tolist() == lists[1]["item_id"].tolist()
    assert lists[0]["because_item_id"].equals(lists[1]["because_item_id"])


def test_a_dataset_describes_itself():
    data = Dataset(TIDY, read_titles(None, TIDY["item_id"]))
    assert repr(data) == "Dataset(3 ratings by 2 users of 2 items; 2 items listed)"


def test_a_time_that_is_not_in_the_encoding_is_named(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes(b"user_id,item_id,rating,when\n1,2,3,2020-01-01\n1,3,4,2020-01-0\xb1\n")
    with pytest.raises(EncodingError, match="line 3 is not utf-8"):
        read_ratings(path, timestamp="when")

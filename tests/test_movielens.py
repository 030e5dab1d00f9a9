import gzip
import os
import runpy
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import saerec.movielens
from saerec import DataError, find_titles, genre_table, load_movielens
from saerec.synthetic import make_movies, make_ratings, write_movielens
from saerec.validation import (
    DuplicateRatingError,
    EmptyDataError,
    FileFormatError,
    IdTypeError,
    MissingColumnError,
    NoHeaderError,
    NotANumberError,
    TimestampError,
)

SHIPPED = Path(__file__).parent.parent / "data" / "ml-latest-small"


def write(folder: Path, movies: str = "1,Heat (1995),Crime", ratings: str = "7,1,4.5,99") -> Path:
    folder.mkdir(parents=True)
    (folder / "movies.csv").write_text(f"movieId,title,genres\n{movies}\n", encoding="utf-8")
    (folder / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{ratings}\n", encoding="utf-8")
    return folder


def test_the_shipped_data_are_whole(movielens):
    ratings, movies = movielens.ratings, movielens.movies
    assert (len(ratings), ratings["user_id"].nunique(), len(movies)) == (100_004, 671, 9_125)
    assert ratings.dtypes.to_dict() == {
        "user_id": np.int64,
        "item_id": np.int64,
        "rating": np.float32,
        "timestamp": np.int64,
    }
    assert list(movies.columns) == ["item_id", "title", "genres", "year"]
    assert (movies["item_id"].dtype, movies["year"].dtype) == (np.int64, pd.Int16Dtype())
    assert repr(movielens) == "Dataset(100,004 ratings by 671 users of 9,066 items; 9,125 items listed)"


def test_titles_genres_and_years_of_the_shipped_data(movielens):
    movies = movielens.movies.set_index("title")
    assert movies.loc["Misérables, Les (1995)", "year"] == 1995
    assert movies.loc["Toy Story (1995)", "genres"] == "Adventure|Animation|Children|Comedy|Fantasy"
    assert "(no genres listed)" not in set(movies["genres"])
    assert (movies["genres"] == "").any()
    untitled = movies["year"].isna()
    assert 0 < untitled.sum() < 20
    assert not movies.index[untitled].str.contains(r"\(\d{4}\)\s*$").any()


def test_a_path_a_name_here_and_a_shipped_name_are_found(tmp_path, monkeypatch, movielens):
    monkeypatch.chdir(tmp_path)
    assert len(load_movielens("ml-latest-small").ratings) == 100_004
    write(tmp_path / "data" / "mine")
    write(tmp_path / "elsewhere" / "other", ratings="7,1,4.5,99\n8,1,2.0,99")
    assert len(load_movielens("mine").ratings) == 1
    assert len(load_movielens(tmp_path / "elsewhere" / "other").ratings) == 2
    assert len(load_movielens("elsewhere/other").ratings) == 2


def test_an_installed_package_finds_the_data_inside_it(tmp_path, monkeypatch):
    """The wheel puts the shipped data in saerec/data (pyproject.toml, force-include)."""
    package = write(tmp_path / "site-packages" / "saerec" / "data" / "shipped").parent.parent
    shutil.copy(saerec.movielens.__file__, package)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    module = runpy.run_path(str(package / "movielens.py"))
    assert len(module["load_movielens"]("shipped").ratings) == 1


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        load_movielens("ml-9M")
    for place in ("'ml-9M'", str(Path("data") / "ml-9M"), str(SHIPPED.parent / "ml-9M"), "saerec fetch"):
        assert place in str(error.value)


@pytest.mark.parametrize("nothing", ["", ".", ".."])
def test_what_names_nothing_means_no_data_set_in_a_data_folder(tmp_path, monkeypatch, nothing):
    here = write(tmp_path / "cwd" / "data" / "mine").parent.parent
    monkeypatch.chdir(here / "data" / "mine" if nothing == "" else here)
    with pytest.raises(FileNotFoundError, match=f"no data set '{nothing}'"):
        load_movielens(nothing)


def test_a_missing_file_is_named(tmp_path):
    folder = write(tmp_path / "half")
    (folder / "movies.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"its movies are missing: movies\.csv or movies\.dat or u\.item"):
        load_movielens(folder)


def test_fields_are_read_as_they_stand(tmp_path):
    rows = ["5,None,Drama", "3,NaN (1999),(no genres listed)", "9,NA,NA", '4,"Misérables, Les (1935) ",Drama|War']
    movies = load_movielens(write(tmp_path / "odd", movies="\n".join(rows))).movies
    expected = pd.DataFrame(
        {
            "item_id": [5, 3, 9, 4],
            "title": ["None", "NaN (1999)", "NA", "Misérables, Les (1935) "],
            "genres": ["Drama", "", "NA", "Drama|War"],
            "year": pd.array([None, 1999, None, 1935], dtype="Int16"),
        }
    )
    pd.testing.assert_frame_equal(movies, expected)


KOLYA = "242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|0|0|0|0|0|1" + 13 * "|0"
STAR_WARS = "242::Star Wars: Episode IV - A New Hope (1977)::Action|Sci-Fi"
PRESIDENT = '242,"American President, The (1995)",Comedy'
LAYOUTS = {
    "100k": (
        {"u.data": b"196\t242\t3\t881250949\n186\t302\t5\t891717742\n"},
        {"u.item": f"{KOLYA}\n302|Ça va: L'été|||{'|1' + 18 * '|0'}\n".encode("latin-1")},
        [(242, "Kolya (1996)", "Comedy", 1996), (302, "Ça va: L'été", "", None)],
    ),
    "1m": (
        {"ratings.dat": b"196::242::3::881250949\n186::302::5::891717742\n"},
        {"movies.dat": f"{STAR_WARS}\n302::L'été (1960)::Drama\n".encode("latin-1")},
        [
            (242, "Star Wars: Episode IV - A New Hope (1977)", "Action|Sci-Fi", 1977),
            (302, "L'été (1960)", "Drama", 1960),
        ],
    ),
    "10m": (
        {"ratings.dat": b"196::242::3::881250949\n186::302::4.5::891717742\n"},
        {"movies.dat": '242::A :: "B" (1994)::(no genres listed)\r\n302::Ōkami, The (2001)::Drama\r\n'.encode()},
        [(242, 'A :: "B" (1994)', "", 1994), (302, "Ōkami, The (2001)", "Drama", 2001)],
    ),
    "csv": (
        {"ratings.csv": b"userId,movieId,rating,timestamp\n196,242,3.0,881250949\n186,302,4.5,891717742\n"},
        {"movies.csv": f'movieId,title,genres\r\n{PRESIDENT}\r\n302,"""Wow"" (1975-1979) ",Drama\r\n'.encode()},
        [(242, "American President, The (1995)", "Comedy", 1995), (302, '"Wow" (1975-1979) ', "Drama", 1975)],
    ),
}


@pytest.mark.parametrize("how", ["folder", "nested folder", "zip", "zip with a folder", "name.zip", "gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_known_by_its_files(tmp_path, monkeypatch, layout, how):
    ratings, movies, listed = LAYOUTS[layout]
    if how == "gz":
        ratings = {f"{name}.gz": gzip.compress(content) for name, content in ratings.items()}
    inner = "anything/" if how in ("nested folder", "zip with a folder") else ""
    files = {
        f"data/named/{inner}{name}": content for name, content in (ratings | movies | {"README": b"terms"}).items()
    }
    source = tmp_path / "data" / "named"
    if "zip" in how:
        source = tmp_path / "data" / "named.zip"
        source.parent.mkdir()
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in files.items():
                archive.writestr(name.removeprefix("data/named/"), content)
    else:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    data = load_movielens("named" if how == "name.zip" else source)
    second = 5.0 if layout in ("100k", "1m") else 4.5
    expected = {
        "user_id": [196, 186],
        "item_id": [242, 302],
        "rating": [3, second],
        "timestamp": [881250949, 891717742],
    }
    dtypes = {"user_id": np.int64, "item_id": np.int64, "rating": np.float32, "timestamp": np.int64}
    pd.testing.assert_frame_equal(data.ratings, pd.DataFrame(expected).astype(dtypes))
    titles = pd.DataFrame(listed, columns=["item_id", "title", "genres", "year"]).astype({"year": "Int16"})
    pd.testing.assert_frame_equal(data.movies, titles)


def zipped(path: Path, **inside: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for where, folder in inside.items():
            for file in folder.iterdir():
                archive.write(file, f"{where.replace('__', '/')}/{file.name}")
    return path


def test_a_zip_is_searched_three_folders_deep_and_may_hold_one_data_set(tmp_path):
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    assert len(load_movielens(zipped(tmp_path / "deep.zip", a__b__c=one)).ratings) == 1
    with pytest.raises(
        FileNotFoundError, match=r"there is no ratings\.csv, ratings\.dat, u\.data in .*, nor in a zip file"
    ):
        load_movielens(zipped(tmp_path / "deeper.zip", a__b__c__d=one))
    for source in (zipped(tmp_path / "both.zip", a__two=two, a__one=one), tmp_path):
        with pytest.raises(FileFormatError) as raised:
            load_movielens(source)
        inner = "/a" if source.suffix else ""
        places = ", ".join(f"{source}{inner}/{name}" for name in ("one", "two"))
        assert str(raised.value).replace("/,", ",").rstrip("/") == (
            f"{source} holds several data sets: give the path of one, unpacked: {places}"
        )


def test_of_several_files_the_first_layout_counts(tmp_path):
    folder = write(tmp_path / "mixed")
    (folder / "ratings.dat").write_text("1::2::3::4\n2::2::3::4\n")
    (folder / "movies.dat").write_text("2::Alien (1979)::Horror\n")
    data = load_movielens(folder)
    assert (len(data.ratings), data.movies["title"].tolist()) == (1, ["Heat (1995)"])


def test_doubled_ratings_are_refused_or_resolved_as_asked(tmp_path):
    folder = write(tmp_path / "twice", ratings="7,1,4.5,99\n7,1,1.5,90\n8,1,2,90")
    with pytest.raises(DuplicateRatingError) as raised:
        load_movielens(folder)
    assert str(raised.value) == (
        f"{folder / 'ratings.csv'}: ratings of a (user, item) pair that was rated before: 1, the first by user 7 of "
        "item 1; keep one of each, or let read_ratings, load_movielens or saerec run do it: duplicates can be last or "
        "mean"
    )
    assert load_movielens(folder, duplicates="last").ratings["rating"].tolist() == [4.5, 2]
    assert load_movielens(folder, duplicates="mean").ratings["rating"].tolist() == [3, 2]


@pytest.mark.parametrize("layout", ["100k", "1m", "10m", "csv"])
def test_what_was_written_is_read_back(tmp_path, layout):
    ratings = make_ratings(50, 120, 2_000, seed=3, step=1.0 if layout in ("100k", "1m") else 0.5)
    movies = make_movies(ratings["item_id"].unique(), seed=4)
    data = load_movielens(write_movielens(ratings, layout, tmp_path, movies=movies))
    pd.testing.assert_frame_equal(data.ratings, ratings.drop(columns="expected"))
    pd.testing.assert_frame_equal(data.movies, movies)


def test_1m_and_10m_differ_by_their_encoding_alone(tmp_path):
    for encoding in ("latin-1", "utf-8"):
        (tmp_path / encoding).mkdir()
        (tmp_path / encoding / "ratings.dat").write_bytes(b"1::2::3::4\n")
        (tmp_path / encoding / "movies.dat").write_bytes("2::Misérables, Les (1995)::Drama\n".encode(encoding))
        assert load_movielens(tmp_path / encoding).movies["title"].tolist() == ["Misérables, Les (1995)"]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (
            {"ratings.csv": "userId,movieId,rating\n1,2,3\n"},
            MissingColumnError,
            r"ratings\.csv, line 1: no column timestamp",
        ),
        ({"ratings.csv": "1,2,3,4\n"}, NoHeaderError, r"ratings\.csv, line 1"),
        ({"ratings.csv": "userId,movieId,rating,timestamp\n1,x,3,4\n"}, IdTypeError, r"line 2: the movieId is 'x'"),
        (
            {"ratings.dat": "1::2::3::4\n1::2::good::4\n"},
            NotANumberError,
            r"line 2: the rating is 'good', not a number",
        ),
        ({"ratings.dat": '"1"::2::3::4\n'}, IdTypeError, """line 1: the userId is '"1"', not a whole number"""),
        ({"ratings.dat": "1::2::3\n"}, FileFormatError, r"line 1: 3 fields instead of 4"),
        (
            {"u.data": "1\t2\t3\t4\n1\t2\t3\t4.5\n"},
            TimestampError,
            r"line 2: the timestamp is '4.5', not a whole number of",
        ),
        (
            {"u.data": "1\t2\t3\t4\n1\t3\t3\t978300760000\n"},
            TimestampError,
            r"line 2: the timestamp is '978300760000', not a whole number of seconds \(not milliseconds\) since 1970",
        ),
        (
            {"u.data": "1\t2\t3\t4\n1\t3\t3\t-978300760000\n"},
            TimestampError,
            r"line 2: the timestamp is '-978300760000', not a whole number of seconds",
        ),
        (
            {"u.data": "1000000000000000001\t2\t3\t4\n1\t3\tbad\t4\n"},
            NotANumberError,
            r"line 2: the rating is 'bad', not a number; correct",
        ),
        ({"u.data": ""}, EmptyDataError, r"u\.data holds no rows"),
        (
            {"u.data": "1\t2\t3\t4\n", "u.item": "2|Heat (1995)|||\n"},
            FileFormatError,
            r"line 1: 5 fields instead of 24",
        ),
        (
            {"ratings.dat": "1::2::3::4\n", "movies.dat": "2::Heat (1995)\n"},
            FileFormatError,
            r"line 1 is not of the form id::",
        ),
        ({"u.data": "1\t2\t3\t4\n"}, FileNotFoundError, "its movies are missing: movies.csv or movies.dat or u.item"),
        ({"README": "empty"}, FileNotFoundError, "there is no ratings.csv, ratings.dat, u.data in "),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, files, error, message):
    movies = {} if error is FileNotFoundError or len(files) > 1 else {"movies.csv": "movieId,title,genres\n2,Heat,\n"}
    for name, content in (files | movies).items():
        (tmp_path / name).write_text(content)
    with pytest.raises((DataError, FileNotFoundError), match=message) as raised:
        load_movielens(tmp_path)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "ratings.csv",
            b"userId;movieId;rating;timestamp\n",
            ", line 1: .* is not divided .*; correct or remove it$",
        ),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n\xe9,1,2,3\n", ", line 2 is not utf-8: save it as UTF-8$"),
        ("movies.csv", b"movieId,title,genres\n1,Ol\xe9,\n", ", line 2 is not utf-8: save it as UTF-8$"),
    ],
)
def test_no_option_is_advised_that_a_release_does_not_have(tmp_path, name, content, message):
    (write(tmp_path / "one") / name).write_bytes(content)
    with pytest.raises(DataError, match=name + message):
        load_movielens(tmp_path / "one")


def test_a_damaged_zip_says_so(tmp_path):
    whole = write(tmp_path / "whole")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as stored:
        for file in whole.iterdir():
            stored.write(file, file.name)
    content = Path(archive).read_bytes()
    Path(archive).write_bytes(content[:-40])
    with pytest.raises(FileFormatError, match=r"archive\.zip is not a whole zip file"):
        load_movielens(archive)
    Path(archive).write_bytes(content.replace(b"userId", b"usurId"))
    with pytest.raises(FileFormatError, match=r"archive\.zip.* is damaged: Bad CRC-32"):
        load_movielens(archive)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_damage_to_a_zip_is_an_error_of_ours_or_harmless(tmp_path, compression):
    whole = write(tmp_path / "whole")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", compression) as packed:
        for file in whole.iterdir():
            packed.write(file, file.name)
    content = archive.read_bytes()
    right = load_movielens(archive)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        archive.write_bytes(damaged)
        try:
            data = load_movielens(archive)
        except (DataError, FileNotFoundError):
            continue
        pd.testing.assert_frame_equal(data.ratings, right.ratings)
        pd.testing.assert_frame_equal(data.movies, right.movies)


def test_the_current_folder_may_be_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path / "here"))
    assert len(load_movielens(".").ratings) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_lines_of_movies_dat_may_end_in_any_way(tmp_path, end):
    (tmp_path / "ratings.dat").write_text("1::2::3::4\n")
    (tmp_path / "movies.dat").write_bytes(f"2::Heat (1995)::Crime{end}3::Alien::Horror{end}".encode())
    movies = load_movielens(tmp_path).movies
    assert movies[["title", "genres"]].to_numpy().tolist() == [["Heat (1995)", "Crime"], ["Alien", "Horror"]]


@pytest.mark.parametrize("cache_from", [10, 10**9])
def test_ratings_can_be_written_to(tmp_path, monkeypatch, cache_from):
    monkeypatch.setattr(saerec.movielens, "CACHE_FROM", cache_from)
    folder = write(tmp_path / "one")
    for _ in range(2):  # the second time from the copy
        ratings = load_movielens(folder).ratings
        ratings.loc[ratings["rating"] > 4, "rating"] = 4
        ratings.loc[:, "user_id"] += 1
        assert ratings.to_numpy().tolist() == [[8, 1, 4, 99]]


class TestCachedCopy:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(saerec.movielens, "CACHE_FROM", 10)
        return write(tmp_path / "large")

    @pytest.fixture
    def reads(self, monkeypatch):
        """How often the text was read."""
        count = []
        read = saerec.movielens._read_ratings
        monkeypatch.setattr(saerec.movielens, "_read_ratings", lambda *options: count.append(1) or read(*options))
        return count

    @pytest.mark.parametrize("source", ["folder", "zip"])
    def test_is_what_the_text_is(self, folder, reads, source):
        name = shutil.make_archive(str(folder), "zip", folder) if source == "zip" else folder
        first, second = load_movielens(name).ratings, load_movielens(name).ratings
        pd.testing.assert_frame_equal(first, second)
        assert len(reads) == 1
        beside = f"{name}.saerec.parquet" if source == "zip" else folder / "ratings.csv.saerec.parquet"
        assert Path(beside).is_file()

    def test_is_not_trusted_when_the_source_has_changed(self, folder, reads):
        load_movielens(folder)
        state = (folder / "ratings.csv").stat()
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,3.5,99\n")  # of the same size
        os.utime(folder / "ratings.csv", ns=(state.st_atime_ns, state.st_mtime_ns + 1000))
        assert load_movielens(folder).ratings["rating"].tolist() == [3.5]
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,13.5,99\n")
        os.utime(folder / "ratings.csv", ns=(state.st_atime_ns, state.st_mtime_ns + 1000))  # of the same time
        assert load_movielens(folder).ratings["rating"].tolist() == [13.5]
        assert len(reads) == 3

    def test_is_not_trusted_when_another_reader_wrote_it(self, folder, reads, monkeypatch):
        load_movielens(folder)
        monkeypatch.setattr(saerec.movielens, "READER", saerec.movielens.READER + 1)
        load_movielens(folder)
        assert len(reads) == 2

    def test_is_of_what_was_asked_about_doubled_ratings(self, folder, reads):
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.5,99\n7,1,1.5,90\n")
        for duplicates, rating in (("last", 4.5), ("mean", 3.0), ("last", 4.5)):
            assert load_movielens(folder, duplicates=duplicates).ratings["rating"].tolist() == [rating]
        with pytest.raises(DuplicateRatingError):
            load_movielens(folder)

    def test_is_made_anew_when_it_is_damaged(self, folder, reads):
        load_movielens(folder)
        copy = folder / "ratings.csv.saerec.parquet"
        whole = copy.read_bytes()
        for damaged in (b"", whole[:100], whole[:4] + b"x" * 60 + whole[64:], whole[: len(whole) // 2]):
            copy.write_bytes(damaged)
            assert load_movielens(folder).ratings["rating"].tolist() == [4.5]
        assert copy.read_bytes() == whole
        assert len(reads) == 5

    def test_a_flipped_byte_is_noticed(self, folder, reads):
        """Of what the ratings are in: the pages before the footer, where nothing else would be checked."""
        rows = "".join(f"{user},{user % 7 + 1},{user % 9 / 2 + 0.5},{99 + user}\n" for user in range(500))
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
        right = load_movielens(folder).ratings
        copy = folder / "ratings.csv.saerec.parquet"
        whole = copy.read_bytes()
        for position in range(4, len(whole) - 8, max(1, len(whole) // 150)):
            flipped = bytearray(whole)
            flipped[position] ^= 0x40
            copy.write_bytes(flipped)
            pd.testing.assert_frame_equal(load_movielens(folder).ratings, right)

    def test_where_none_can_be_written_the_text_is_read(self, folder, reads, monkeypatch):
        def refuse(*_):
            raise PermissionError("read-only")

        monkeypatch.setattr(saerec.movielens, "save_atomically", refuse)
        assert len(load_movielens(folder).ratings) == len(load_movielens(folder).ratings) == 1
        assert len(reads) == 2

    def test_a_small_source_has_none_and_one_of_10_megabytes_has(self, folder, monkeypatch):
        monkeypatch.undo()
        load_movielens(folder)
        assert not list(folder.glob("*.parquet"))
        with (folder / "ratings.csv").open("a") as file:
            file.write("\n" * 10_000_000)
        load_movielens(folder)
        assert list(folder.glob("*.parquet"))


def test_columns_may_stand_in_another_order(tmp_path):
    folder = write(tmp_path / "mixed")
    (folder / "ratings.csv").write_text("timestamp,rating,extra,movieId,userId\n99,4.5,x,1,7\n")
    assert load_movielens(folder).ratings.to_dict("list") == {
        "user_id": [7],
        "item_id": [1],
        "rating": [4.5],
        "timestamp": [99],
    }


class TestFindTitles:
    movies = pd.DataFrame(
        {"item_id": [50, 7, 9, 11], "title": ["Heat (1995)", "Alien (1979)", "Alien (1979) II", "What? (1972)"]}
    )

    @pytest.mark.parametrize(
        ("title", "item_id"), [("Heat (1995)", 50), ("hEAT", 50), ("alien (1979)", 7), ("n (1979) ii", 9), ("t? (", 11)]
    )
    def test_a_whole_title_or_a_part_of_one_alone(self, title, item_id):
        assert find_titles(self.movies, [title]) == [item_id]

    def test_ids_come_in_the_order_asked(self):
        assert find_titles(self.movies, ["alien (1979)", "heat"]) == [7, 50]
        assert find_titles(self.movies, "heat") == [50]

    @pytest.mark.parametrize(
        ("title", "message"),
        [
            ("Alien", r"2 movies fit 'Alien', say which: Alien \(1979\) \(id 7\); Alien \(1979\) II \(id 9\)"),
            ("Jaws", "no movie's title"),
        ],
    )
    def test_several_or_none_is_an_error(self, title, message):
        with pytest.raises(KeyError, match=message):
            find_titles(self.movies, ["Heat", title])


def test_genres_count_a_movie_in_each_of_its_own():
    movies = pd.DataFrame({"item_id": [1, 2, 2, 3, 4], "genres": ["A|B", "B", "B", "", "C"]})
    ratings = pd.DataFrame({"item_id": [1, 1, 2, 3], "rating": [4.0, 2.0, 5.0, 1.0]})
    table = genre_table(ratings, movies)
    assert table.to_dict("index") == {
        "A": {"n_movies": 1, "n_ratings": 2, "mean_rating": 3.0},
        "B": {"n_movies": 2, "n_ratings": 3, "mean_rating": pytest.approx(11 / 3)},
    }


def test_a_folder_without_ratings_does_not_hide_the_data_set_of_its_name(tmp_path, monkeypatch):
    """Such as a run's folder, when the current folder is runs/."""
    (tmp_path / "ml-latest-small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load_movielens("ml-latest-small").ratings) == 100_004


def test_features_are_genres_and_decades():
    movies = pd.DataFrame(
        {
            "item_id": [7, 3, 9, 7],
            "genres": ["Comedy|Drama", "", "Drama", "Horror"],
            "year": pd.array([1990, 1996, None, 2001], dtype="Int16"),
        }
    )
    features = saerec.movie_features(movies)
    distant = {years: np.exp(-((years / 6) ** 2)) for years in (4, 6, 10)}
    expected = pd.DataFrame(
        {"Comedy": [1, 0, 0], "Drama": [1, 0, 1], "1990s": [1, distant[6], 0], "2000s": [distant[10], distant[4], 0]},
        index=pd.Index([7, 3, 9], name="item_id"),
        dtype=np.float32,
    )
    pd.testing.assert_frame_equal(features, expected)


def test_no_genres_and_no_years_are_no_features(tmp_path):
    movies = pd.DataFrame({"item_id": [7, 3], "genres": ["", ""], "year": pd.array([None, None], dtype="Int16")})
    assert saerec.movie_features(movies).shape == (2, 0)

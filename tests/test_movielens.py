import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import saerec.movielens
from saerec import find_titles, genre_table, load_movielens

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

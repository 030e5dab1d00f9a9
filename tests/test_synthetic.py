"""Made ratings have the best possible RMSE they claim and MovieLens' long tails; files are written byte for byte."""

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import saerec
from saerec import synthetic
from saerec.movielens import GENRES_100K
from saerec.synthetic import iter_ratings, make_movies, make_ratings, write_movielens
from saerec.validation import (
    DataError,
    EmptyDataError,
    EncodingError,
    IdTypeError,
    MissingColumnError,
    MissingIdError,
    NotANumberError,
    TimestampError,
)

SHIPPED = Path(__file__).parent.parent / "data" / "ml-latest-small"
COLUMNS = ["user_id", "item_id", "rating", "timestamp", "expected"]


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    """As many users, items and ratings as the shipped data have."""
    return make_ratings(671, 9_066, 100_004, seed=1)


@pytest.fixture
def three() -> pd.DataFrame:
    rows = [(7, 50, 4.0, 881250949), (7, 3, 5.0, 881250950), (12, 3, 1.0, 978300760)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.fixture
def movies() -> pd.DataFrame:
    rows = [
        (3, "Star Trail: Episode IV - A New Dawn (1977)", "Action|Sci-Fi"),
        (50, "Misérable, Le (1995)", "Children's"),
        (51, 'unknown "film"', ""),
    ]
    return pd.DataFrame(rows, columns=["item_id", "title", "genres"])


def outcomes(truth: np.ndarray, noise: float, stars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the rating given the truth, from the probability of every star."""
    step = stars[1] - stars[0]
    edges = np.concatenate([[-np.inf], stars[:-1] + step / 2, [np.inf]])
    p = np.diff(norm.cdf(edges, loc=truth[:, None], scale=noise), axis=1)  # (T, number of stars)
    mean = p @ stars
    return mean, p @ stars**2 - mean**2


class TestRatings:
    def test_columns_counts_and_order(self, made):
        assert made.dtypes.astype(str).to_dict() == dict(
            zip(COLUMNS, ["int64", "int64", "float32", "int64", "float32"])
        )
        assert len(made) == 100_004
        assert not made.duplicated(["user_id", "item_id"]).any()
        assert np.array_equal(made["user_id"].unique(), np.arange(1, 672))
        pd.testing.assert_frame_equal(made, made.sort_values(["user_id", "item_id"], ignore_index=True))
        assert np.diff(np.unique(made["item_id"])).max() > 1  # ids have gaps
        assert set(made["rating"]) == set(np.arange(1, 11) / 2)
        assert set(make_ratings(step=1)["rating"]) == {1, 2, 3, 4, 5}

    @pytest.mark.parametrize(
        "size", [(1, 1, 1), (5, 1, 5), (1, 7, 3), (30, 20, 600), (30, 20, 599), (50, 400, 50), (2_000, 30, 20_001)]
    )
    def test_any_size_is_met_exactly(self, size):
        for spread in (0, 1, 3):
            frame = make_ratings(*size, user_spread=spread, item_spread=spread)
            assert (len(frame), frame["user_id"].nunique()) == (size[2], size[0])
            assert frame["item_id"].nunique() <= size[1]
            assert not frame.duplicated(["user_id", "item_id"]).any()

    def test_the_same_arguments_give_the_same_ratings(self, made):
        pd.testing.assert_frame_equal(made, make_ratings(671, 9_066, 100_004, seed=1))
        other = make_ratings(671, 9_066, 100_004, seed=2)
        assert (made["rating"] == other["rating"]).mean() < 0.3  # two strangers agree on 0.14
        # with all cells rated, only the seeds are left to make a difference: that of the items and that of the users
        one, two = make_ratings(10, 10, 100, seed=1), make_ratings(10, 10, 100, seed=2)
        assert list(one["item_id"]) != list(two["item_id"])
        assert list(one["timestamp"]) != list(two["timestamp"])

    @pytest.mark.parametrize(("noise", "step"), [(0.8, 0.5), (0.3, 0.5), (1.5, 1)])
    def test_the_best_possible_rmse_is_known(self, noise, step):
        frame = make_ratings(2_000, 1_000, 200_000, seed=3, noise=noise, step=step)
        grid = np.linspace(-6, 12, 40_001)
        mean, variance = outcomes(grid, noise, np.arange(step, 5.01, step))
        truth = np.interp(frame["expected"], mean, grid)
        rating, expected = frame["rating"].to_numpy(float), frame["expected"].to_numpy(float)
        error = rating - expected
        four_sigma = 4 / np.sqrt(len(frame))
        assert abs(error.mean()) < four_sigma * error.std()
        # unbiased wherever the expectation lies, not just on the whole
        for _, part in pd.Series(error).groupby(pd.qcut(expected, 10, labels=False)):
            assert abs(part.mean()) < 4 * part.std() / np.sqrt(len(part))
        best = np.interp(expected, mean, variance).mean()
        assert abs((error**2).mean() - best) < four_sigma * (error**2).std()
        # what knows everything but the clipping, or is a little off, is worse
        for other in (np.clip(truth, step, 5), expected + 0.05, 0.95 * expected + 0.05 * expected.mean()):
            assert saerec.rmse(rating, other) > saerec.rmse(rating, expected)

    def test_noise_and_taste_are_what_was_asked(self):
        def spread_of_taste(taste: float) -> float:
            """Of what a user's and an item's mean leave over of `expected`, all cells being known."""
            cells = make_ratings(300, 200, 60_000, taste=taste, noise=0.8)["expected"].to_numpy(float).reshape(300, 200)
            rest = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
            return rest.std()

        assert spread_of_taste(0) < 0.1  # only the bend of the scale's ends
        assert spread_of_taste(0.4) == pytest.approx(0.4, abs=0.07)  # less at the ends
        # far from the ends, rounding to half stars adds a variance of 0.5² / 12
        frame = make_ratings(n_ratings=200_000, noise=0.3)
        middle = frame[frame["expected"].between(2, 3.5)]
        assert saerec.rmse(middle["rating"], middle["expected"]) == pytest.approx(np.sqrt(0.3**2 + 1 / 48), rel=0.02)

    def test_the_tails_are_those_of_the_shipped_data(self, made, movielens):
        """With room for chance: over seeds 0 to 9 the shares vary by 0.04 and 0.08, the maxima by a factor of 3."""

        def tails(ratings: pd.DataFrame) -> dict[str, float]:
            by_user, by_item = ratings["user_id"].value_counts(), ratings["item_id"].value_counts()
            return {
                "share of the top tenth of items": by_item.head(len(by_item) // 10).sum() / len(ratings),
                "share of the top tenth of users": by_user.head(len(by_user) // 10).sum() / len(ratings),
                "items rated once": (by_item == 1).mean(),
                "least by a user": by_user.min(),
                "median of a user": by_user.median(),
                "most by a user": by_user.max(),
                "most of an item": by_item.max(),
            }

        real, ours = tails(movielens.ratings), tails(made)
        assert ours["share of the top tenth of items"] == pytest.approx(
            real["share of the top tenth of items"], abs=0.1
        )
        assert ours["share of the top tenth of users"] == pytest.approx(
            real["share of the top tenth of users"], abs=0.1
        )
        assert 0.1 < ours["items rated once"] < 0.4  # 0.34 of the real ones: it leaves out those never rated
        assert ours["least by a user"] == real["least by a user"] == 20
        assert ours["median of a user"] == pytest.approx(real["median of a user"], rel=0.2)
        for most in ("most by a user", "most of an item"):
            assert 0.4 < ours[most] / real[most] < 2.5
        assert made["rating"].mean() == pytest.approx(movielens.ratings["rating"].mean(), abs=0.3)
        assert made["rating"].std() == pytest.approx(movielens.ratings["rating"].std(), abs=0.2)

    def test_without_spread_there_are_no_tails(self):
        flat = make_ratings(100, 500, 10_000, user_spread=0, item_spread=0)
        assert set(flat["user_id"].value_counts()) == {100}
        assert flat["item_id"].value_counts().max() < 45  # 20 on average, deviation 4

    def test_both_ways_to_draw_have_one_distribution(self):
        """The chance of an item to be among 3 of 6 drawn one after the other, by redrawing and by clocks."""
        popularity, n = np.array([8, 4, 2, 1, 1, 1]) / 17, 20_000
        shares = []
        for heavy in (False, True):
            counts = np.full(n, 3)
            pairs = synthetic._draw_pairs(counts, np.full(n, heavy), popularity, np.random.default_rng(0))
            assert np.array_equal(np.bincount(pairs // 6), counts)
            assert (np.diff(pairs) > 0).all()
            shares.append(np.bincount(pairs % 6) / n)
        np.testing.assert_allclose(*shares, atol=4 * np.sqrt(2 * 0.25 / n))
        first_is_0, second_is_0 = 8 / 17, sum(p * 8 / (17 - p) for p in (4, 2, 1, 1, 1)) / 17
        assert first_is_0 + second_is_0 < shares[0][0] < 1

    def test_times_are_sessions_in_any_order_of_items(self, made):
        assert made["timestamp"].between(788_918_400, 1_577_836_800).all()  # 1995 to 2019
        by_user = made.sort_values(["user_id", "timestamp"]).groupby("user_id")["timestamp"]
        gaps = by_user.diff().dropna()
        assert 5 < gaps.median() < 20  # 10 s in the shipped data
        assert 0.01 < (gaps > 86_400).mean() < 0.1  # 0.04 there
        starts = by_user.first()
        assert np.ptp(starts) > 20 * 365 * 86_400
        in_order = made.groupby("user_id")["timestamp"].diff() >= 0
        assert 0.4 < in_order.mean() < 0.6
        tireless = make_ratings(1, 20_000, 20_000)["timestamp"]  # whose sessions, weeks apart, would take 55 years
        assert tireless.between(788_918_400, 1_577_836_800).all()
        assert np.ptp(tireless) > 10 * 365 * 86_400

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_users": 0}, "50,000 ratings by 0 users"),
            ({"n_items": 0}, "1 of each|one of each"),
            ({"n_ratings": 0}, "cannot make 0 ratings"),
            ({"n_factors": 0}, "0 factors"),
            ({"n_ratings": 600_001}, "no more ratings than users × items"),
            ({"n_ratings": 599}, "a rating for every user"),
            ({"noise": 0}, "noise=0"),
            ({"noise": np.nan}, "noise=nan"),
            ({"taste": -1}, "taste=-1"),
            ({"step": 0.25}, "step=0.25"),
            ({"user_spread": 3.5}, "user_spread=3.5"),
            ({"item_spread": -0.1}, "item_spread=-0.1"),
        ],
        ids=str,
    )
    def test_impossible_requests_are_refused(self, arguments, message):
        with pytest.raises(DataError, match=message):
            iter_ratings(**arguments)  # at once, not with the first block


class TestBlocks:
    def test_blocks_are_whole_users_and_make_up_the_frame(self, monkeypatch):
        monkeypatch.setattr(synthetic, "BLOCK", 5_000)
        blocks = list(iter_ratings(seed=5))
        assert len(blocks) > 8
        assert max(map(len, blocks)) < 5_000 + 1_000  # the last user of a block may go beyond it
        for before, after in pairwise(blocks):
            assert before["user_id"].iloc[-1] + 1 == after["user_id"].iloc[0]
        whole = make_ratings(seed=5)
        pd.testing.assert_frame_equal(pd.concat(blocks, ignore_index=True), whole)
        assert len(whole) == 50_000
        # an item is the same in all blocks: known from its mean in one, it is known in another
        means = [
            half.groupby("item_id")["expected"].mean() for half in (pd.concat(blocks[::2]), pd.concat(blocks[1::2]))
        ]
        assert means[0].corr(means[1]) > 0.6

    def test_blocks_are_not_alike(self, monkeypatch):
        monkeypatch.setattr(synthetic, "BLOCK", 1_000)
        _, one, two, _ = iter_ratings(30, 100, 3_000)  # all cells: 10 users in either
        assert len(one) == len(two) == 1_000
        assert not np.array_equal(one["expected"], two["expected"])
        assert not np.array_equal(one["timestamp"], two["timestamp"])

    def test_memory_does_not_grow_with_the_number_of_ratings(self, monkeypatch):
        monkeypatch.setattr(synthetic, "BLOCK", 20_000)

        def peak(n_users: int, n_items: int, n_ratings: int, **settings) -> float:
            """Bytes for each rating of a block."""
            tracemalloc.start()
            assert sum(map(len, iter_ratings(n_users, n_items, n_ratings, **settings))) == n_ratings
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return top / 20_000

        assert peak(8_000, 2_000, 800_000) < 1.5 * peak(1_000, 2_000, 100_000)
        # whose items are drawn with clocks, needs a number for each item of the catalogue
        assert peak(200, 4_000, 100_000, item_spread=3) < peak(1_000, 2_000, 100_000)


def test_models_land_between_the_best_possible_and_the_mean():
    frame = make_ratings(500, 200, 20_000, seed=6, taste=0.8)
    train, valid, test = saerec.split_ratings(frame, seed=0)
    best = saerec.rmse(test["rating"], test["expected"])
    mean = saerec.rmse(test["rating"], np.full(len(test), train["rating"].mean()))
    matrix = saerec.RatingMatrix.from_frame(train)
    biases = saerec.BiasBaseline().fit(matrix).predict(*matrix.positions(test["user_id"], test["item_id"]))
    trained = saerec.Recommender(seed=0).fit(train, valid).evaluate(test)["rmse"]
    assert best < 0.85 < trained < saerec.rmse(test["rating"], biases) < mean


class TestMovies:
    def test_all_traps_are_there(self):
        movies = make_movies(np.arange(100, 300))
        assert list(movies["item_id"]) == list(range(100, 300))
        assert movies.dtypes.astype(str).to_dict() == {
            "item_id": "int64",
            "title": str(pd.Series(["a"]).dtype),  # object in pandas 2
            "genres": str(pd.Series(["a"]).dtype),
            "year": "Int16",
        }
        for trap in (": Episode", ", The (", ", Le (", '"', "é", "'"):
            assert movies["title"].head(8).str.contains(trap, regex=False).sum() == 1, trap
        assert list(np.flatnonzero(movies["year"].isna())) == [49, 99, 149, 199]
        titled = movies["title"].str.extract(r"\((\d{4})\)\s*$")[0]
        pd.testing.assert_series_equal(pd.to_numeric(titled).astype("Int16"), movies["year"], check_names=False)
        assert movies["title"].duplicated().sum() >= 4
        assert movies["title"][26] == movies["title"][25]
        assert 5 < (movies["genres"] == "").sum() < 50
        named = set(movies["genres"].str.split("|").explode()) - {""}
        assert "Children's" in named
        assert named <= set(GENRES_100K[1:])
        "".join(movies["title"]).encode("latin-1")

    def test_seeds(self):
        pd.testing.assert_frame_equal(make_movies([4, 9], seed=3), make_movies([4, 9], seed=3))
        assert make_movies([4, 9], seed=3)["title"][0] != make_movies([4, 9], seed=4)["title"][0]


class TestFiles:
    def test_the_shipped_files_come_back_byte_for_byte(self, tmp_path, movielens):
        assert write_movielens(movielens.ratings, "csv", tmp_path / "new", movielens.movies) == tmp_path / "new"
        for name in ("ratings.csv", "movies.csv"):
            assert (tmp_path / "new" / name).read_bytes() == (SHIPPED / name).read_bytes(), name
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["movies.csv", "ratings.csv"]

    def test_100k(self, tmp_path, three, movies):
        write_movielens(three, "100k", tmp_path, movies)
        assert (tmp_path / "u.data").read_bytes() == b"7\t50\t4\t881250949\n7\t3\t5\t881250950\n12\t3\t1\t978300760\n"
        assert (tmp_path / "u.item").read_bytes() == (
            b"3|Star Trail: Episode IV - A New Dawn (1977)|01-Jan-1977||http://us.imdb.com/M/title-exact?"
            b"Star%20Trail:%20Episode%20IV%20-%20A%20New%20Dawn%20(1977)|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0\n"
            b"50|Mis\xe9rable, Le (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?"
            b"Mis%E9rable,%20Le%20(1995)|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
            b'51|unknown "film"||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n'
        )

    @pytest.mark.parametrize(("layout", "e_acute"), [("1m", b"\xe9"), ("10m", b"\xc3\xa9")])
    def test_1m_and_10m(self, tmp_path, three, movies, layout, e_acute):
        write_movielens(three, layout, tmp_path, movies)
        ratings = b"7::50::4::881250949\n7::3::5::881250950\n12::3::1::978300760\n"
        assert (tmp_path / "ratings.dat").read_bytes() == ratings
        assert (tmp_path / "movies.dat").read_bytes() == (
            b"3::Star Trail: Episode IV - A New Dawn (1977)::Action|Sci-Fi\n"
            b"50::Mis" + e_acute + b"rable, Le (1995)::Children's\n"
            b'51::unknown "film"::(no genres listed)\n'
        )

    def test_10m_writes_halves_and_whole_stars_without_a_decimal(self, tmp_path, three, movies):
        write_movielens(three.assign(rating=[3.5, 0.5, 2.0]), "10m", tmp_path, movies)
        lines = (tmp_path / "ratings.dat").read_bytes().splitlines()
        assert [line.split(b"::")[2] for line in lines] == [b"3.5", b"0.5", b"2"]

    def test_csv(self, tmp_path, three, movies):
        write_movielens(three.assign(rating=[3.5, 0.5, 2.0]), "csv", tmp_path, movies)
        assert (tmp_path / "ratings.csv").read_bytes() == (
            b"userId,movieId,rating,timestamp\n7,50,3.5,881250949\n7,3,0.5,881250950\n12,3,2.0,978300760\n"
        )
        assert (tmp_path / "movies.csv").read_bytes() == (
            b"movieId,title,genres\n3,Star Trail: Episode IV - A New Dawn (1977),Action|Sci-Fi\n"
            b'50,"Mis\xc3\xa9rable, Le (1995)",Children\'s\n51,"unknown ""film""",(no genres listed)\n'
        )

    def test_blocks_and_slices_are_written_one_after_the_other(self, tmp_path, monkeypatch):
        whole = make_ratings(step=1)
        write_movielens(whole, "1m", tmp_path / "whole")
        monkeypatch.setattr(synthetic, "BLOCK", 7_777)
        write_movielens(whole, "1m", tmp_path / "slices")
        write_movielens((part for _, part in whole.groupby("user_id")), "1m", tmp_path / "parts")
        for name in ("ratings.dat", "movies.dat"):
            written = (tmp_path / "whole" / name).read_bytes()
            assert (tmp_path / "slices" / name).read_bytes() == written
            assert (tmp_path / "parts" / name).read_bytes() == written
        assert (tmp_path / "whole" / "ratings.dat").read_bytes().count(b"\n") == len(whole)

    def test_left_out_movies_are_made_for_the_rated_items(self, tmp_path):
        made = make_ratings(n_ratings=2_000)
        data = saerec.load_movielens(write_movielens(made, "csv", tmp_path))
        pd.testing.assert_frame_equal(data.ratings, made[COLUMNS[:4]])
        pd.testing.assert_frame_equal(data.movies, make_movies(np.unique(made["item_id"])))

    @pytest.mark.parametrize(
        ("layout", "rating", "message"),
        [
            ("100k", 3.5, r"ratings off the scale of layout '100k', 1 2 3 4 5: 1, the first is 3\.5, at index 1"),
            ("1m", 3.5, r"Layouts that take 3\.5: 10m, csv"),
            ("10m", 0.0, "take 0: none"),
            ("csv", 5.5, "take 5.5: none"),
            ("csv", 3.25, "the first is 3.25"),
            ("csv", np.nan, "the first is nan"),
        ],
    )
    def test_ratings_off_the_scale_are_refused_not_rounded(self, tmp_path, three, movies, layout, rating, message):
        three.loc[1, "rating"] = rating
        with pytest.raises(DataError, match=message):
            write_movielens(three, layout, tmp_path, movies)
        assert not (tmp_path / synthetic.LAYOUTS[layout].ratings).exists()

    @pytest.mark.parametrize(
        ("layout", "column", "value", "error", "message"),
        [
            ("100k", "title", "Ōkami (1999)", EncodingError, "'100k' is latin-1 without 'Ō': '50|Ōkami"),
            ("1m", "title", "Ōkami (1999)", EncodingError, "'1m' is latin-1 without 'Ō'"),
            ("100k", "title", "This|That (1999)", DataError, r"'\|' between fields and cannot hold 'This\|That"),
            ("1m", "title", "This::That", DataError, "'::' between fields"),
            ("10m", "title", "This:", DataError, "'::' between fields"),
            ("10m", "title", "This\nThat", DataError, "text of one line"),
            ("csv", "title", "This\rThat", DataError, "text of one line"),
            ("1m", "genres", "Sci::Fi", DataError, "cannot hold 'Sci::Fi'"),
            (
                "100k",
                "genres",
                "Comedy|Children",
                DataError,
                r"no genre 'Children', which 'Misérable, Le \(1995\)' has",
            ),
        ],
    )
    def test_movies_that_a_layout_cannot_hold_are_refused(
        self, tmp_path, three, movies, layout, column, value, error, message
    ):
        movies.loc[1, column] = value
        with pytest.raises(error, match=message):
            write_movielens(three, layout, tmp_path / "new", movies)
        assert not (tmp_path / "new").exists()

    def test_those_that_others_can_hold_are_written(self, tmp_path, three, movies):
        movies.loc[1, "title"] = "Ōkami: This|That (1999)"
        write_movielens(three, "10m", tmp_path, movies)
        assert (tmp_path / "movies.dat").read_text(encoding="utf-8").splitlines()[1] == (
            "50::Ōkami: This|That (1999)::Children's"
        )

    @pytest.mark.parametrize(
        ("column", "values", "error", "message"),
        [
            ("rating", ["good", "bad"], NotANumberError, "the column rating holds .*, not numbers"),
            ("rating", [True, True], NotANumberError, "the column rating holds boolean, not numbers"),
            ("user_id", [None, 7], MissingIdError, "ratings without user_id: 1, the first at index 5; drop or repair"),
            ("item_id", [7, None], MissingIdError, "ratings without item_id: 1, the first at index 9; drop or repair"),
            ("timestamp", [7, None], TimestampError, "ratings without timestamp: 1, the first at index 9"),
            ("user_id", [2**63, 7], IdTypeError, f"whole numbers below 2\\*\\*63 as user_id, not {2**63}"),
        ],
    )
    def test_numbers_that_are_none_are_refused(self, tmp_path, three, column, values, error, message):
        wrong = three.head(2).set_axis([5, 9])
        for dtype in [None] if column == "rating" else ["UInt64", "uint64[pyarrow]"]:
            wrong[column] = pd.array(values, dtype=dtype)
            with pytest.raises(error, match=message):
                write_movielens([three, wrong], "csv", tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("value", "error"), [(None, MissingIdError), (2**63, IdTypeError)])
    def test_ids_of_movies_that_are_none_are_refused(self, tmp_path, three, movies, value, error):
        movies["item_id"] = pd.array([3, value, 51], dtype="UInt64")
        with pytest.raises(error, match=r"movies without item_id: 1, the first at index 1|as item_id, not"):
            write_movielens(three, "csv", tmp_path / "new", movies)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("dtype", ["uint64", "Int64", "int64[pyarrow]"])
    def test_whole_numbers_of_any_kind_are_written(self, tmp_path, three, movies, dtype):
        kinds = {"user_id": dtype, "item_id": dtype, "timestamp": dtype}
        write_movielens([three.head(0), three.astype(kinds)], "csv", tmp_path, movies.astype({"item_id": dtype}))
        data = saerec.load_movielens(tmp_path)
        assert data.ratings.to_numpy().tolist() == three.to_numpy().tolist()
        assert data.movies["item_id"].tolist() == [3, 50, 51]

    def test_other_unusable_input(self, tmp_path, three, movies):
        with pytest.raises(DataError, match="layout must be one of 100k, 1m, 10m, csv, not '25m'"):
            write_movielens(three, "25m", tmp_path)
        with pytest.raises(MissingColumnError, match="the ratings: no column timestamp; there are: user_id, item_id"):
            write_movielens(three.drop(columns="timestamp"), "csv", tmp_path)
        with pytest.raises(MissingColumnError, match="the movies: no column title, genres; there are: item_id"):
            write_movielens(three, "csv", tmp_path, movies[["item_id"]])
        with pytest.raises(IdTypeError, match="whole numbers as timestamp, not float64"):
            write_movielens(three.astype({"timestamp": float}), "csv", tmp_path)
        with pytest.raises(EmptyDataError, match="there are no movies to write"):
            write_movielens(three, "10m", tmp_path, movies.head(0))
        for nothing in (three.head(0), [], iter([three.head(0)])):
            with pytest.raises(EmptyDataError, match="no ratings"):
                write_movielens(nothing, "csv", tmp_path)
        assert not list(tmp_path.glob("*.csv"))

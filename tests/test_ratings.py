import json

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sklearn.model_selection import train_test_split

import saerec.ratings
from saerec import RatingMatrix, describe_ratings, split_ratings, top_users_and_items
from saerec.files import sha256_of
from saerec.validation import DataError, IdTypeError, MissingIdError, TimestampError


def frame_of(*triples) -> pd.DataFrame:
    return pd.DataFrame(triples, columns=["user_id", "item_id", "rating"])


SIGNED = frame_of((9, 30, 0.0), (2, 30, -1.5), (9, 10, 4.0), (5, 20, 0.5))  # a zero, a negative, ids with gaps
SIGNED_DENSE = [[0, 0, -1.5], [0, 0.5, 0], [4, 0, 0]]
SIGNED_OBSERVED = [[False, False, True], [False, True, False], [True, False, True]]

UNUSABLE = {
    "no column rating": SIGNED.drop(columns="rating"),
    "no column user_id, item_id": SIGNED[["rating"]],
    "empty": SIGNED.iloc[:0],
    "missing or infinite ratings: 1, the first at index 2": SIGNED.assign(rating=[1, 2, np.nan, 3]),
    "missing or infinite ratings: 2, the first at index 1": SIGNED.assign(rating=[1, np.inf, 2, -np.inf]),
    "missing or infinite ratings: 1": SIGNED.assign(rating=pd.array([1, 2, None, 3], dtype="Int64")),
    "not numbers": SIGNED.assign(rating=["1", "2", "3", "4"]),
    "ratings without item_id: 1, the first at index 3": SIGNED.assign(item_id=[1, 2, 3, None]),
}


@pytest.mark.parametrize("message", UNUSABLE)
@pytest.mark.parametrize("function", [RatingMatrix.from_frame, top_users_and_items, split_ratings])
def test_an_unusable_frame_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function(UNUSABLE[message])


class TestRatingMatrix:
    def test_zero_and_negative_ratings_are_ratings(self):
        matrix = RatingMatrix.from_frame(SIGNED)
        assert matrix.n_ratings == 4
        assert matrix.user_counts.tolist() == [1, 1, 2]
        assert matrix.item_counts.tolist() == [1, 1, 2]
        assert matrix.scale == (-1.5, 4.0)
        assert matrix.density == pytest.approx(4 / 9)

    def test_ids_are_those_of_the_frame_sorted(self):
        matrix = RatingMatrix.from_frame(SIGNED)
        assert matrix.user_ids.tolist() == [2, 5, 9]
        assert matrix.item_ids.tolist() == [10, 20, 30]

    def test_dense_rows_hold_ratings_and_what_is_observed(self):
        ratings, observed = RatingMatrix.from_frame(SIGNED).dense(np.array([2, 0]))
        assert ratings.dtype == np.float32
        np.testing.assert_array_equal(ratings, [SIGNED_DENSE[2], SIGNED_DENSE[0]])
        assert observed.dtype == bool
        np.testing.assert_array_equal(observed, [SIGNED_OBSERVED[2], SIGNED_OBSERVED[0]])

    def test_transposed_changes_users_and_items(self):
        transposed = RatingMatrix.from_frame(SIGNED).T
        ratings, observed = transposed.dense(np.arange(3))
        np.testing.assert_array_equal(ratings, np.transpose(SIGNED_DENSE))
        np.testing.assert_array_equal(observed, np.transpose(SIGNED_OBSERVED))
        assert transposed.user_ids.tolist() == [10, 20, 30]
        assert transposed.item_ids.tolist() == [2, 5, 9]
        assert transposed.user_counts.tolist() == [1, 1, 2]

    @pytest.mark.parametrize("id_type", [int, str])
    def test_frame_to_matrix_and_back(self, tastes, id_type):
        frame = tastes[["user_id", "item_id", "rating"]].astype({"user_id": id_type, "item_id": id_type})
        back = RatingMatrix.from_frame(frame).to_frame()
        assert_frame_equal(back, frame.sort_values(["user_id", "item_id"], ignore_index=True))

    def test_order_of_rows_does_not_matter(self, tastes):
        one = RatingMatrix.from_frame(tastes)
        other = RatingMatrix.from_frame(tastes.sort_values("rating"))
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(one.csr, part), getattr(other.csr, part))

    def test_given_ids_set_positions_and_may_be_unrated(self):
        matrix = RatingMatrix.from_frame(SIGNED, user_ids=[9, 7, 5, 2], item_ids=[30, 20, 10])
        np.testing.assert_array_equal(matrix.dense(np.arange(4))[0], [[0, 0, 4], [0, 0, 0], [0, 0.5, 0], [-1.5, 0, 0]])
        assert RatingMatrix.from_frame(SIGNED.iloc[:0], user_ids=[1, 2], item_ids=[3]).shape == (2, 1)

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            ({"user_ids": [2, 5]}, "whose user_id .*: 2, the first has 9"),
            ({"item_ids": [10, 20]}, "whose item_id .*: 2, the first has 30"),
        ],
    )
    def test_an_id_that_the_given_ids_lack_is_an_error(self, ids, message):
        with pytest.raises(KeyError, match=message):
            RatingMatrix.from_frame(SIGNED, **ids)

    def test_positions_of_ids_that_are_missing_are_an_error(self):
        matrix = RatingMatrix.from_frame(SIGNED.assign(user_id=["a", "b", "a", "c"]))
        assert [found.tolist() for found in matrix.positions(["b", "d"], [10, 11])] == [[1, -1], [0, -1]]
        with pytest.raises(MissingIdError, match="a user_id is missing"):
            matrix.positions(pd.Series(["b", None], dtype=object), [10, 11])

    def test_a_repeated_pair_is_named(self):
        repeated = pd.concat([SIGNED, frame_of((5, 20, 3.0))])
        with pytest.raises(ValueError, match=r"rated before: 1, the first by user 5 of item 20"):
            RatingMatrix.from_frame(repeated)

    def test_a_million_users_and_items_take_no_room(self):
        ids = range(1_000_000)
        matrix = RatingMatrix.from_frame(frame_of((999_999, 3, 0.0), (0, 999_999, 2.0)), user_ids=ids, item_ids=ids)
        assert matrix.T.T.shape == (1_000_000, 1_000_000)
        assert matrix.to_frame()["item_id"].tolist() == [999_999, 3]
        assert matrix.dense(np.array([999_999]))[1].sum() == 1


class TestFiles:
    """A matrix in files, and worked on some rows at a time."""

    @pytest.mark.parametrize("mmap", [True, False])
    @pytest.mark.parametrize("text", [True, False])
    def test_what_is_saved_is_opened(self, tastes, tmp_path, text, mmap):
        frame = tastes.assign(user_id="ü" + tastes["user_id"].astype(str)) if text else tastes
        matrix = RatingMatrix.from_frame(frame)
        matrix.save(tmp_path / "new")
        opened = RatingMatrix.open(tmp_path / "new", mmap=mmap)
        assert_frame_equal(opened.to_frame(), matrix.to_frame())
        assert opened.user_ids.equals(matrix.user_ids) and opened.item_ids.equals(matrix.item_ids)
        np.testing.assert_array_equal(opened.item_counts, matrix.item_counts)

    def test_ratings_stay_on_disk(self, tastes, tmp_path):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        opened = RatingMatrix.open(tmp_path)
        for part in (opened.csr.data, opened.csr.indices, *opened.coordinates(3, 9)[1:]):
            while part.base is not None and not isinstance(part, np.memmap):
                part = part.base
            assert isinstance(part, np.memmap) and not part.flags.writeable

    def test_files_that_do_not_fit_together_are_refused(self, tastes, tmp_path):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        np.save(tmp_path / "data.npy", np.ones(3, dtype=np.float32))
        with pytest.raises(DataError, match=f"{tmp_path.name} holds no ratings that saerec wrote"):
            RatingMatrix.open(tmp_path)

    @pytest.mark.parametrize("name", ["data.npy", "item_ids.json"])
    def test_files_that_are_cut_off_are_refused(self, tastes, tmp_path, name):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
        with pytest.raises(DataError, match=f"{tmp_path.name} holds no ratings that saerec wrote"):
            RatingMatrix.open(tmp_path)

    def test_what_an_interrupted_save_left_is_no_matrix(self, tastes, tmp_path, monkeypatch):
        matrix = RatingMatrix.from_frame(tastes)
        matrix.save(tmp_path)
        save, saved = saerec.ratings.save_atomically, []

        def interrupted(path, how):
            if len(saved) == 2:
                raise KeyboardInterrupt
            saved.append(save(path, how))

        monkeypatch.setattr(saerec.ratings, "save_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            RatingMatrix(matrix.csr * 2, matrix.user_ids, matrix.item_ids).save(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no matrix in .*: matrix\.json, .* is missing"):
            RatingMatrix.open(tmp_path)

    @pytest.mark.parametrize("again", [False, True], ids=["altered", "with checksums to match"])
    @pytest.mark.parametrize(
        ("name", "spoil", "why"),
        [
            ("indices.npy", lambda a: np.where(np.arange(len(a)) == 5, 10**9, a).astype(np.int32), "points outside"),
            ("indices.npy", lambda a: np.where(np.arange(len(a)) == 5, -1, a).astype(np.int32), "points outside"),
            ("indices.npy", lambda a: a[::-1].copy(), "out of order"),
            ("indptr.npy", lambda a: a[::-1].copy(), "does not divide"),
            ("data.npy", lambda a: np.full_like(a, np.nan), "NaN"),
            ("data.npy", lambda a: a.astype(object), "Python objects"),
            ("item_ids.json", lambda ids: {}, "no list of text or of whole numbers"),
            ("item_ids.json", lambda ids: [ids[0], *ids[:-1]], "an id twice"),
            ("item_ids.json", lambda ids: [True, *ids[1:]], "no list of text or of whole numbers"),
        ],
    )
    def test_spoiled_files_are_refused(self, tastes, tmp_path, name, spoil, why, again):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, spoil(np.load(path)), allow_pickle=True)
        else:
            path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
        if again:
            manifest = json.loads((tmp_path / "matrix.json").read_text())
            manifest["files"][name] = sha256_of(path)
            (tmp_path / "matrix.json").write_text(json.dumps(manifest))
        with pytest.raises(DataError, match=why if again else f"{name} is not as it was written"):
            RatingMatrix.open(tmp_path)

    def test_a_newer_format_is_told(self, tastes, tmp_path):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        manifest = json.loads((tmp_path / "matrix.json").read_text())
        (tmp_path / "matrix.json").write_text(json.dumps(manifest | {"format": 99}))
        with pytest.raises(DataError, match="its format, 99, is of a newer saerec, and here 1: upgrade it"):
            RatingMatrix.open(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "[" * 100_000])
    def test_a_spoiled_manifest_is_refused(self, tastes, tmp_path, text):
        RatingMatrix.from_frame(tastes).save(tmp_path)
        (tmp_path / "matrix.json").write_text(text)
        with pytest.raises(DataError, match="holds no ratings that saerec wrote"):
            RatingMatrix.open(tmp_path)

    @pytest.mark.parametrize("block", [1, 17, 10_000])
    def test_some_rows_after_the_other_are_all(self, tastes, monkeypatch, block):
        matrix = RatingMatrix.from_frame(tastes)
        expected = matrix.coordinates(), matrix.item_counts
        monkeypatch.setattr(saerec.ratings, "BLOCK", block)
        blocks = matrix.blocks()
        assert (len(blocks) == 1) == (block == 10_000)
        some = [matrix.coordinates(*block) for block in blocks]
        np.testing.assert_array_equal([*map(np.concatenate, zip(*some))], expected[0])
        assert max(len(rows) for rows, *_ in some) < block + matrix.user_counts.max()
        np.testing.assert_array_equal(RatingMatrix.from_frame(tastes).item_counts, expected[1])


class TestTopUsersAndItems:
    FRAME = frame_of(
        ("ann", "x", 1.0),
        ("bob", "x", 2.0),
        ("ann", "y", 3.0),
        ("cid", "x", 4.0),
        ("bob", "z", 5.0),
        ("ann", "z", 1.0),
    )

    def test_hand_worked(self):
        assert top_users_and_items(self.FRAME, n_users=2, n_items=1).index.tolist() == [0, 1]
        assert top_users_and_items(self.FRAME, n_users=1, n_items=2).index.tolist() == [0, 5]
        assert_frame_equal(top_users_and_items(self.FRAME, n_users=3, n_items=99), self.FRAME)

    @pytest.mark.parametrize(
        ("n_users", "n_items"), [*((n, 24) for n in range(1, 40, 4)), *((40, n) for n in range(1, 24))]
    )
    def test_ties_are_resolved_as_pandas_does(self, tastes, n_users, n_items):
        users = set(tastes["user_id"].value_counts().nlargest(n_users).index)
        items = set(tastes["item_id"].value_counts().nlargest(n_items).index)
        kept = [user in users and item in items for user, item in zip(tastes["user_id"], tastes["item_id"])]
        assert_frame_equal(top_users_and_items(tastes, n_users, n_items), tastes[kept])

    def test_the_cut_of_the_shipped_data(self, movielens):
        assert len(top_users_and_items(movielens.ratings)) == 62_397

    @pytest.mark.parametrize("sizes", [{"n_users": 0}, {"n_items": -1}])
    def test_fewer_than_one_is_an_error(self, sizes):
        with pytest.raises(ValueError, match=f"{next(iter(sizes))} must be at least 1"):
            top_users_and_items(self.FRAME, **sizes)

    def test_nothing_left_is_an_error(self):
        frame = frame_of(("ann", "x", 1.0), ("ann", "y", 1.0), ("bob", "z", 1.0), ("cid", "z", 1.0), ("dan", "z", 1.0))
        with pytest.raises(ValueError, match="ask for more"):
            top_users_and_items(frame, n_users=1, n_items=1)


class TestSplitRatings:
    @pytest.mark.parametrize("seed", [0, 5])
    def test_random_is_the_split_of_scikit_learn(self, tastes, seed):
        train, valid, test = split_ratings(tastes, seed=seed)
        rest, expected_test = train_test_split(tastes, test_size=0.2, random_state=seed)
        expected_train, expected_valid = train_test_split(rest, test_size=0.1, random_state=seed)
        assert_frame_equal(test, expected_test)
        assert_frame_equal(valid, expected_valid)
        assert_frame_equal(train, expected_train)

    @pytest.mark.parametrize("by", ["random", "time"])
    @pytest.mark.parametrize("shares", [{}, {"valid": 0}, {"test": 0}, {"valid": 0, "test": 0}])
    def test_parts_are_disjoint_and_complete(self, tastes, by, shares):
        parts = split_ratings(tastes, by=by, **shares)
        assert_frame_equal(pd.concat(parts).sort_index(), tastes.sort_index())
        train, valid, test = map(len, parts)
        assert (valid == 0, test == 0) == ("valid" in shares, "test" in shares)
        assert train > 0

    def test_by_time_each_users_latest_are_held_out(self):
        frame = frame_of(
            *[("ann", item, 1.0) for item in range(5)], ("bob", 0, 1.0), *[("cid", i, 2.0) for i in (1, 2)]
        )
        frame["timestamp"] = [30, 50, 10, 40, 20, 99, 7, 7]
        train, valid, test = split_ratings(frame, by="time", test=0.5, valid=0.34)
        assert test.index.tolist() == [1, 3, 7]  # of cid's equal times the later row is the later
        assert valid.index.tolist() == [0]
        assert train.index.tolist() == [2, 4, 5, 6]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"test": 1}, "test is a share"),
            ({"test": -0.1}, "test is a share"),
            ({"valid": 1.5}, "valid is a share"),
            ({"valid": np.nan}, "valid is a share"),
            ({"by": "user"}, "'random' or 'time', not 'user'"),
            ({"by": "time", "test": 0.01}, "no user has enough ratings"),
        ],
    )
    def test_bad_options_are_refused(self, tastes, options, message):
        with pytest.raises(ValueError, match=message):
            split_ratings(tastes, **options)

    def test_by_time_needs_times(self, tastes):
        with pytest.raises(ValueError, match="no column timestamp"):
            split_ratings(tastes.drop(columns="timestamp"), by="time")
        for spoiled in (tastes["timestamp"].astype(str), tastes["timestamp"].where(tastes["rating"] > 2)):
            with pytest.raises(TimestampError, match="neither dates nor numbers of seconds"):
                split_ratings(tastes.assign(timestamp=spoiled), by="time")


def test_the_latest_share_is_not_a_victim_of_rounding():
    frame = pd.DataFrame({"user_id": 1, "item_id": range(100), "rating": 3.0, "timestamp": range(100)})
    assert 0.29 * 100 < 29
    assert len(split_ratings(frame, by="time", test=0.29, valid=0)[2]) == 29


def test_sizes_of_a_table():
    frame = pd.DataFrame({"user_id": [1, 1, 1, 2, 3], "item_id": [5, 6, 7, 5, 5], "rating": [1.0, 2.0, 6.0, 5.0, 1.0]})
    assert describe_ratings(frame).tolist() == [3, 3, 5, pytest.approx(5 / 9), 1, 1, 3.0]


def test_the_cut_of_the_shipped_data_keeps_the_first_of_the_movies_that_tie(movielens):
    """34 movies have 25 ratings, the fewest that are kept; which of them are depends on the order alone."""
    raw = movielens.ratings
    counts = raw["item_id"].value_counts()
    tied = [item for item in raw["item_id"].drop_duplicates() if counts[item] == 25]
    n_room = 1000 - (counts > 25).sum()
    kept = set(top_users_and_items(raw)["item_id"])
    assert len(tied) == 34 and 0 < n_room < 34
    assert [item in kept for item in tied] == [True] * n_room + [False] * (34 - n_room)


def test_positions_of_ids_of_another_type_are_refused():
    matrix = RatingMatrix.from_frame(pd.DataFrame({"user_id": [3, 8], "item_id": ["a", "b"], "rating": [1.0, 2.0]}))
    rows, cols = matrix.positions([8, 5], ["a", "c"])
    assert rows.tolist() == [1, -1] and cols.tolist() == [0, -1]
    with pytest.raises(IdTypeError, match="the user_ids are of type string, those of the data integer"):
        matrix.positions(["8"], ["a"])
    with pytest.raises(IdTypeError, match="the item_ids are of type integer"):
        matrix.positions([8], [1])

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec import BiasBaseline, RatingMatrix, fit_baselines

HAND = pd.DataFrame(
    [("ann", 1, 5.0), ("ann", 2, 3.0), ("bob", 1, 4.0), ("cid", 2, 0.0)], columns=["user_id", "item_id", "rating"]
)


@pytest.fixture
def matrix(tastes) -> RatingMatrix:
    return RatingMatrix.from_frame(tastes)


def test_means_by_hand():
    baselines = fit_baselines(RatingMatrix.from_frame(HAND))
    pairs = np.array([0, 1, 2])[:, None], np.array([0, 1])
    assert list(baselines) == ["global mean", "user means", "item means", "regularised biases"]
    np.testing.assert_allclose(baselines["global mean"].predict(*pairs), np.full((3, 2), 3.0))
    np.testing.assert_allclose(baselines["user means"].predict(*pairs), [[4, 4], [4, 4], [0, 0]])
    np.testing.assert_allclose(baselines["item means"].predict(*pairs), [[4.5, 1.5]] * 3)


def test_one_shrunk_sweep_by_hand():
    baseline = BiasBaseline(shrinkage=1.0, n_sweeps=1).fit(RatingMatrix.from_frame(HAND))
    np.testing.assert_allclose(baseline.item_bias, [3 / 3, -3 / 3])
    np.testing.assert_allclose(baseline.user_bias, [(2 - 1 + 0 + 1) / 3, (1 - 1) / 2, (-3 + 1) / 2])


def test_spreads_are_those_of_what_is_left_over_with_five_more_of_the_spread_of_all():
    matrix = RatingMatrix.from_frame(HAND)
    baseline = BiasBaseline(shrinkage=1.0, n_sweeps=1).fit(matrix)
    left = np.array([2 - 1 - 2 / 3, 0 + 1 - 2 / 3, 1 - 1, -3 + 1 + 1]) ** 2
    assert baseline.spread == pytest.approx(np.sqrt(left.mean()))
    expected = [(left[:2].sum() + 5 * left.mean()) / 7, (left[2] + 5 * left.mean()) / 6]
    np.testing.assert_allclose(baseline.user_spread[:2], np.sqrt(expected), rtol=1e-6)
    expected = [(left[0] + left[2] + 5 * left.mean()) / 7, (left[1] + left[3] + 5 * left.mean()) / 7]
    np.testing.assert_allclose(baseline.item_spread, np.sqrt(expected), rtol=1e-6)
    np.testing.assert_array_equal(baseline.T.user_spread, baseline.item_spread)
    assert baseline.new_user_spread(np.array([0]), np.array([4.0])) == pytest.approx(baseline.user_spread[1])
    assert baseline.new_user_spread(np.array([], dtype=int), np.array([])) == pytest.approx(baseline.spread)


@pytest.mark.parametrize("shrinkage", [0, 2.5])
@pytest.mark.parametrize("kinds", [{}, {"users": False}, {"items": False}])
def test_biases_equal_a_slow_loop(tastes, matrix, shrinkage, kinds):
    baseline = BiasBaseline(shrinkage=shrinkage, n_sweeps=3, **kinds).fit(matrix)
    triples = list(tastes[["user_id", "item_id", "rating"]].itertuples(index=False))
    mean = sum(float(r) for _, _, r in triples) / len(triples)
    user_bias, item_bias = dict.fromkeys(matrix.user_ids, 0.0), dict.fromkeys(matrix.item_ids, 0.0)
    for _ in range(3):
        for item in item_bias if baseline.items else ():
            rest = [r - mean - user_bias[u] for u, i, r in triples if i == item]
            item_bias[item] = sum(rest) / (len(rest) + shrinkage)
        for user in user_bias if baseline.users else ():
            rest = [r - mean - item_bias[i] for u, i, r in triples if u == user]
            user_bias[user] = sum(rest) / (len(rest) + shrinkage)
    assert baseline.mean == pytest.approx(mean)
    np.testing.assert_allclose(baseline.user_bias, list(user_bias.values()), atol=1e-6)
    np.testing.assert_allclose(baseline.item_bias, list(item_bias.values()), atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0, 3])
def test_unrated_and_unknown_get_no_bias(shrinkage):
    matrix = RatingMatrix.from_frame(HAND, user_ids=["dan", "bob", "cid", "ann"], item_ids=[3, 1, 2])
    baseline = BiasBaseline(shrinkage=shrinkage).fit(matrix)
    assert baseline.user_bias[0] == baseline.item_bias[0] == 0
    assert baseline.user_bias[3] and baseline.item_bias[2]
    for row, col, expected in [
        (-1, -1, 3.0),
        (1, -1, 3.0 + baseline.user_bias[1]),
        (-1, 2, 3.0 + baseline.item_bias[2]),
        (1, 2, 3.0 + baseline.user_bias[1] + baseline.item_bias[2]),
    ]:
        assert baseline.predict(np.array([row]), np.array([col])) == pytest.approx(expected)


def test_transposed_predicts_the_same(matrix):
    baseline = BiasBaseline(items=False).fit(matrix)
    rows, cols = np.arange(matrix.n_users)[:, None], np.arange(matrix.n_items)
    np.testing.assert_array_equal(baseline.T.predict(cols[:, None], rows.T), baseline.predict(rows, cols).T)
    assert (baseline.T.users, baseline.T.items) == (False, True)


@pytest.mark.parametrize("shrinkage", [0, 3])
def test_a_new_user_with_the_ratings_of_a_user_has_their_bias(matrix, shrinkage):
    baseline = BiasBaseline(shrinkage=shrinkage).fit(matrix)
    for row in (0, 17):
        rated = matrix.csr[[row]]
        assert baseline.new_user_bias(rated.indices, rated.data) == pytest.approx(baseline.user_bias[row], abs=1e-6)
    assert BiasBaseline(users=False).fit(matrix).new_user_bias(rated.indices, rated.data) == 0


@pytest.mark.parametrize("shrinkage", [0, 3])
def test_a_new_user_without_ratings_has_no_bias(matrix, shrinkage):
    baseline = BiasBaseline(shrinkage=shrinkage).fit(matrix)
    assert baseline.new_user_bias(np.array([], dtype=int), np.array([])) == 0


def test_permuted_users_have_permuted_biases(tastes, matrix):
    order = np.random.default_rng(1).permutation(matrix.n_users)
    permuted = RatingMatrix.from_frame(tastes, user_ids=matrix.user_ids[order], item_ids=matrix.item_ids)
    one, other = BiasBaseline().fit(matrix), BiasBaseline().fit(permuted)
    np.testing.assert_allclose(other.user_bias, one.user_bias[order], atol=1e-6)
    np.testing.assert_allclose(other.item_bias, one.item_bias, atol=1e-6)


def test_negative_shrinkage_is_refused(matrix):
    with pytest.raises(ValueError, match="shrinkage must not be negative"):
        BiasBaseline(shrinkage=-1).fit(matrix)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_same_list_for_all_leaves_out_what_each_has_rated(k):
    frame = pd.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [10, 11, 11, 12], "rating": [1.0, 2.0, 3.0, 4.0]})
    lists = saerec.same_list_for_all(RatingMatrix.from_frame(frame), np.array([1.0, 0.5, 1.0]), k)
    # of the equals 10 and 12, each rated once, the one that stands first; then 11
    expected = {1: [12], 2: [10, 12], 3: [10, 11]}
    found = {user: list(group["item_id"]) for user, group in lists.groupby("user_id")}
    assert found == {user: items[:k] for user, items in expected.items()}
    assert all(list(group["rank"]) == list(range(1, len(group) + 1)) for _, group in lists.groupby("user_id"))

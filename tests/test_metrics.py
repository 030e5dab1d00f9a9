import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import ndcg_score

import saerec
from saerec import RatingMatrix, error_by, mae, masked_squared_error, metrics, rmse, user_rmse
from saerec.validation import EmptyDataError, UnknownIdError

RATING = np.array([4.0, 2.0, 1.0, 5.0])
PREDICTED = np.array([3.0, 2.0, 4.0, 5.0])  # errors −1, 0, 3, 0
USERS = np.array([7, 7, 7, 1])


def test_errors_by_hand():
    assert rmse(RATING, PREDICTED) == pytest.approx(np.sqrt(10 / 4))
    assert mae(RATING, PREDICTED) == pytest.approx(1.0)


def test_user_rmse_is_the_mean_of_the_users_errors():
    assert user_rmse(RATING, PREDICTED, USERS) == pytest.approx((np.sqrt(10 / 3) + 0) / 2)
    shuffled = pd.Series(USERS, index=[3, 1, 0, 2])
    assert user_rmse(pd.Series(RATING, index=[9, 8, 7, 6]), PREDICTED, shuffled) == user_rmse(RATING, PREDICTED, USERS)


EXPECTED_BY_USER = pd.DataFrame(
    {"n_ratings": [1, 3], "rmse": [0.0, np.sqrt(10 / 3)], "mae": [0.0, 4 / 3], "bias": [0.0, 2 / 3]},
    index=pd.Index([1, 7]),
)


@pytest.mark.parametrize("group", [USERS, pd.Series(USERS, index=[3, 1, 0, 2])], ids=["array", "shuffled series"])
def test_error_by_group(group):
    pd.testing.assert_frame_equal(error_by(RATING, PREDICTED, group), EXPECTED_BY_USER, check_names=False)


def test_error_by_ordered_groups_leaves_out_the_empty():
    group = pd.Categorical(["many", "many", "many", "few"], categories=["few", "some", "many"], ordered=True)
    errors = error_by(RATING, PREDICTED, group)
    assert errors.index.tolist() == ["few", "many"]
    np.testing.assert_allclose(errors, EXPECTED_BY_USER)


@pytest.mark.parametrize(
    "metric", [rmse, mae, lambda r, p: user_rmse(r, p, USERS[: len(r)]), lambda r, p: error_by(r, p, USERS[: len(r)])]
)
@pytest.mark.parametrize(
    ("rating", "predicted", "message"),
    [
        (RATING, np.where(USERS == 1, np.nan, 3.0), "NaN"),
        (np.where(USERS == 1, np.nan, 3.0), PREDICTED, "NaN"),
        (RATING, PREDICTED[:3], "as many predictions as ratings"),
        (RATING[:0], PREDICTED[:0], "at least one"),
    ],
)
def test_every_rating_must_be_scored(metric, rating, predicted, message):
    with pytest.raises(ValueError, match=message):
        metric(rating, predicted)


class TestMaskedSquaredError:
    prediction = torch.tensor([[3.0, 2.0, 9.0], [0.0, 1.0, 1.0]])
    target = torch.tensor([[5.0, 2.5, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [False, False, True]])

    def loss(self, prediction, target):
        prediction = prediction.clone().requires_grad_()
        total, count = masked_squared_error(prediction, target, self.mask)
        total.backward()
        return total.item(), count, prediction.grad

    def test_by_hand(self):
        total, count, gradient = self.loss(self.prediction, self.target)
        assert (total, count) == (4 + 0.25 + 1, 3)
        assert gradient.tolist() == [[-4, -1, 0], [0, 0, 2]]

    @pytest.mark.parametrize("junk", [7.0, torch.nan, torch.inf])
    @pytest.mark.parametrize("where", ["prediction", "target"])
    def test_unobserved_cells_change_nothing(self, junk, where):
        arguments = {"prediction": self.prediction, "target": self.target}
        total, count, gradient = self.loss(**arguments)
        arguments[where] = torch.where(self.mask, arguments[where], junk)
        other_total, other_count, other_gradient = self.loss(**arguments)
        assert (other_total, other_count) == (total, count)
        assert torch.equal(other_gradient, gradient)

    @pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
    def test_batches_add_up_to_the_whole(self, batch_size):
        generator = torch.Generator().manual_seed(0)
        prediction, target = torch.randn(2, 20, 6, generator=generator)
        mask = torch.rand(20, 6, generator=generator) < 0.3
        total, count = masked_squared_error(prediction, target, mask)
        batches = [
            masked_squared_error(*batch) for batch in zip(*(x.split(batch_size) for x in (prediction, target, mask)))
        ]
        assert sum(n for _, n in batches) == count == mask.sum()
        assert sum(error.item() for error, _ in batches) == pytest.approx(total.item(), rel=1e-6)


def test_scores_are_the_three_errors():
    user_ids = [1, 1, 2]
    assert metrics.scores([1, 2, 3], [2, 2, 5], user_ids) == {
        "rmse": metrics.rmse([1, 2, 3], [2, 2, 5]),
        "user_rmse": metrics.user_rmse([1, 2, 3], [2, 2, 5], user_ids),
        "mae": 1.0,
    }


def test_quantile_groups_are_of_about_equal_size_and_say_what_they_hold():
    groups = metrics.quantile_groups([1, 9, 2, 1000, 3, 4], n_groups=3)
    assert list(groups) == ["1–2", "9–1,000", "1–2", "9–1,000", "3–4", "3–4"]
    assert groups.ordered


def test_quantile_groups_keep_equal_values_together():
    values = np.array([0] * 10 + [5] * 3 + [7] * 7)
    groups = pd.Series(metrics.quantile_groups(values))
    assert groups.groupby(values).first().to_dict() == {0: "0–5", 5: "0–5", 7: "7–7"}
    assert groups.groupby(values).nunique().eq(1).all()
    assert metrics.quantile_groups([3, 3, 3]).tolist() == ["3–3"] * 3


def test_quantile_groups_spell_out_large_whole_numbers_and_round_others():
    assert (
        metrics.quantile_groups(np.array([12_345_678, 12_345_679]), n_groups=1).tolist()[0] == "12,345,678–12,345,679"
    )
    assert metrics.quantile_groups(np.float32([-9.79, 3.3]), n_groups=1).tolist()[0] == "-9.79–3.3"


class TestLists:
    lists = pd.DataFrame(
        {"user_id": [1, 1, 1, 2, 2, 2, 3], "rank": [1, 2, 3, 1, 2, 3, 1], "item_id": [10, 11, 12, 13, 10, 11, 10]}
    )
    relevant = pd.DataFrame({"user_id": [1, 1, 2, 2, 2, 2, 4], "item_id": [11, 15, 13, 10, 16, 17, 10]})

    def test_by_hand(self):
        two = 1 + 1 / np.log2(3)
        # user 1: a hit at 2 of two wanted; user 2: hits at 1 and 2 of four; user 3 wants nothing; user 4 has no list
        assert saerec.ndcg(self.lists, self.relevant, k=2) == pytest.approx(np.mean([1 / np.log2(3) / two, 1, 0]))
        assert saerec.ndcg(self.lists, self.relevant, k=1) == pytest.approx(np.mean([0, 1, 0]))
        assert saerec.recall(self.lists, self.relevant, k=2) == pytest.approx(np.mean([1 / 2, 2 / 4, 0]))
        assert saerec.recall(self.lists, self.relevant, k=1) == pytest.approx(np.mean([0, 1 / 4, 0]))

    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_as_scikit_learn(self, k):
        rng = np.random.default_rng(0)
        scores, wanted = rng.random((30, 20)), rng.random((30, 20)) < 0.2
        wanted[:, 0] = True
        order = np.argsort(-scores, axis=1)
        users, ranks = np.indices(order.shape)
        lists = pd.DataFrame({"user_id": users.ravel(), "rank": ranks.ravel() + 1, "item_id": order.ravel()})
        relevant = pd.DataFrame(np.argwhere(wanted), columns=["user_id", "item_id"])
        expected = ndcg_score(wanted, scores, k=k)
        assert saerec.ndcg(lists.sample(frac=1, random_state=0), relevant, k) == pytest.approx(expected)

    @pytest.mark.parametrize("times", [1, 20])  # another scale: the same ratings are liked
    def test_all_of_them(self, times):
        frame = pd.DataFrame({"user_id": [1, 2, 3, 4, 4], "item_id": [10, 10, 11, 12, 20], "rating": [5, 1, 5, 0.5, 3]})
        ratings = RatingMatrix.from_frame(frame.assign(rating=times * frame["rating"]))
        held_out = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [11, 12, 11], "rating": [4.0, 3.5, 5.0]})
        lists = pd.DataFrame({"user_id": [1, 1, 2], "rank": [1, 2, 1], "item_id": [11, 12, 12]})
        found = saerec.list_scores(lists, held_out.assign(rating=times * held_out["rating"]), ratings, k=2)
        assert found == pytest.approx(
            {"ndcg": 0.5, "recall": 0.5, "coverage": 2 / 4, "popularity": 1, "novelty": -np.log2(1 / 4)}
        )
        assert ratings.liked_from == pytest.approx(4 * times)
        first = saerec.list_scores(lists, held_out * [1, 1, times], ratings, k=1)
        assert first["coverage"] == 2 / 4 and first["popularity"] == 1
        both_places = lists.assign(item_id=[11, 10, 11])  # the second place, of an item rated twice, does not count
        assert saerec.list_scores(both_places, held_out * [1, 1, times], ratings, k=1)["coverage"] == 1 / 4

    def test_a_list_of_something_unknown_is_an_error(self):
        ratings = RatingMatrix.from_frame(pd.DataFrame({"user_id": [1, 2], "item_id": [10, 11], "rating": [1.0, 5.0]}))
        held_out = pd.DataFrame({"user_id": [1], "item_id": [11], "rating": [5.0]})
        lists = pd.DataFrame({"user_id": [1, 1], "rank": [1, 2], "item_id": [11, 12]})
        with pytest.raises(UnknownIdError, match="a list holds item 12, which is not among the 2 of the ratings"):
            saerec.list_scores(lists, held_out, ratings)

    def test_nothing_liked_is_an_error(self):
        ratings = RatingMatrix.from_frame(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "rating": [1.0, 5.0]}))
        with pytest.raises(EmptyDataError, match="nothing to find"):
            saerec.list_scores(self.lists, pd.DataFrame({"user_id": [1], "item_id": [2], "rating": [3.0]}), ratings)


def test_coverage_counts_what_lies_within_ends_included_in_each_group():
    rating, low, high = np.array([1.0, 2, 3, 4]), np.array([1.0, 2.5, 2, 0]), np.array([2.0, 3, 3, 3])
    found = saerec.coverage_by(rating, low, high, np.array(["a", "a", "b", "b"]))
    assert found.to_dict("index") == {
        "a": {"n_ratings": 2, "inside": 0.5, "width": 0.75},
        "b": {"n_ratings": 2, "inside": 0.5, "width": 2.0},
    }
    with pytest.raises(ValueError, match="as many intervals as ratings"):
        saerec.coverage_by(rating, low[:2], high, rating)

import numpy as np
import pandas as pd
import pytest
import torch

from saerec import error_by, mae, masked_squared_error, metrics, rmse, user_rmse

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

import numpy as np
import pytest
import torch

from saerec import SAE, BiasBaseline, RatingMatrix
from saerec.prediction import ItemPredictor, UserPredictor

MASK_WEIGHT, RIDGE = 1.5, 0.7


class Case:
    """A matrix with a cold user and a cold item, its baseline, and an autoencoder with weights drawn at random."""

    def __init__(self, parts, orientation: str):
        frame = parts[0]
        self.matrix = RatingMatrix.from_frame(
            frame, user_ids=[*np.unique(frame["user_id"]), 1], item_ids=[1, *np.unique(frame["item_id"])]
        )
        self.baseline = BiasBaseline().fit(self.matrix)
        rows = np.arange(self.matrix.n_users)
        self.offset = self.baseline.predict(rows[:, None], np.arange(self.matrix.n_items))  # (U, I)
        ratings, observed = self.matrix.dense(rows)
        self.input = torch.from_numpy(np.where(observed, ratings - self.offset + MASK_WEIGHT, 0).astype(np.float32))
        self.warm = observed.any(axis=1, keepdims=True) & observed.any(axis=0)  # (U, I)
        self.options = {"mask_weight": MASK_WEIGHT}
        kind, n_columns = UserPredictor, self.matrix.n_items
        if orientation == "item":
            kind, n_columns, self.input = ItemPredictor, self.matrix.n_users, self.input.T
            self.options["ridge"] = RIDGE
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = SAE(n_columns, (6,), dropout=0.5, output_gain=3)
            torch.nn.init.normal_(self.model.output.bias)
        self.predictor = kind(self.model, self.matrix, self.baseline, **self.options)
        self.model.eval()
        with torch.no_grad():
            self.codes = self.model.hidden(self.input).numpy()
            self.deviation = self.model(self.input).numpy()

    def rated(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        ratings = self.matrix.csr[[row]]
        return ratings.indices, ratings.data


@pytest.fixture(scope="module", params=[False, True], ids=["written out", "observed"], autouse=True)
def sparse(request):
    """Whether networks read observed cells alone, as they do where few are; rows without any are among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saerec.training.SPARSE_BELOW", 1.0 if request.param else 0.0)
        yield request.param


@pytest.fixture(scope="module")
def by_user(parts, sparse) -> Case:
    case = Case(parts, "user")
    assert case.predictor.rows.sparse == sparse
    return case


@pytest.fixture(scope="module")
def by_item(parts, sparse) -> Case:
    return Case(parts, "item")


@pytest.fixture(params=["user", "item"])
def either(request) -> Case:
    return request.getfixturevalue(f"by_{request.param}")


NOBODY = np.array([], dtype=int), np.array([], dtype=np.float32)
COLS, RATINGS = np.array([3, 9, 20, 7]), np.array([5.0, 1.0, 4.5, 3.0], dtype=np.float32)


def test_scores_are_offset_plus_output_and_offset_alone_for_the_cold(either):
    rows = np.random.default_rng(0).permutation(either.matrix.n_users)
    deviation = either.deviation if either.model.output.out_features == either.matrix.n_items else either.deviation.T
    expected = either.offset + np.where(either.warm, deviation, 0)
    assert not either.warm.all()
    np.testing.assert_allclose(either.predictor.scores(rows), expected[rows], atol=1e-5)


def test_a_new_users_cold_items_and_no_ratings_are_left_to_the_biases(either):
    scores = either.predictor.new_user_scores(COLS, RATINGS)
    biases = either.baseline.mean + either.baseline.item_bias
    new_bias = either.baseline.new_user_bias(COLS, RATINGS)
    assert scores[0] == pytest.approx(biases[0] + new_bias)
    assert (np.abs(scores - biases - new_bias)[1:] > 1e-4).all()
    np.testing.assert_allclose(either.predictor.new_user_scores(*NOBODY), biases, rtol=1e-6)
    assert scores.shape == (either.matrix.n_items,)
    assert scores.dtype == np.float32


class TestUserPredictor:
    def test_permuted_users_have_permuted_scores(self, by_user):
        order = np.random.default_rng(1).permutation(by_user.matrix.n_users)
        permuted = RatingMatrix.from_frame(
            by_user.matrix.to_frame(), user_ids=by_user.matrix.user_ids[order], item_ids=by_user.matrix.item_ids
        )
        other = UserPredictor(by_user.model, permuted, BiasBaseline().fit(permuted), **by_user.options)
        rows = np.arange(by_user.matrix.n_users)
        np.testing.assert_allclose(other.scores(rows), by_user.predictor.scores(order), atol=1e-5)

    def test_a_new_user_with_the_ratings_of_a_user_has_their_scores(self, by_user):
        for row in range(by_user.matrix.n_users - 1):
            scores = by_user.predictor.new_user_scores(*by_user.rated(row))
            np.testing.assert_allclose(scores, by_user.predictor.scores(np.array([row]))[0], atol=1e-5)

    def test_influence_is_that_of_leaving_the_rating_out(self, by_user):
        targets = np.array([5, 1, 3, 0])
        offset = by_user.baseline.mean + by_user.baseline.item_bias + by_user.baseline.new_user_bias(COLS, RATINGS)
        x = np.zeros((5, by_user.matrix.n_items), dtype=np.float32)
        x[:, COLS] = (RATINGS - offset[COLS]) + MASK_WEIGHT
        x[np.arange(4), COLS] = 0  # rows 0-3 lack one rating each, row 4 none
        with torch.no_grad():
            output = np.where(by_user.warm.any(axis=0), by_user.model(torch.from_numpy(x)), 0)
        influence = by_user.predictor.influence(COLS, RATINGS, targets)
        np.testing.assert_allclose(influence, (output[4] - output[:4])[:, targets], atol=1e-5)

    def test_influence_of_an_only_rating_is_all_that_the_network_says(self, by_user):
        cols, rating, targets = COLS[:1], RATINGS[:1], np.arange(by_user.matrix.n_items)
        offset = by_user.baseline.mean + by_user.baseline.item_bias + by_user.baseline.new_user_bias(cols, rating)
        said = by_user.predictor.new_user_scores(cols, rating) - offset
        np.testing.assert_allclose(by_user.predictor.influence(cols, rating, targets)[0], said, atol=1e-5)
        assert np.abs(said).max() > 0.01


class TestItemPredictor:
    def test_a_new_users_scores_are_the_primal_ridge_solution(self, by_item):
        offset = by_item.baseline.mean + by_item.baseline.item_bias + by_item.baseline.new_user_bias(COLS, RATINGS)
        mean_user = by_item.deviation.mean(axis=1)  # (I, U) -> (I,)
        centred = (by_item.codes - by_item.codes.mean(axis=0)).astype(float)
        codes, rest = centred[COLS], (RATINGS - offset[COLS] - mean_user[COLS]).astype(float)
        taste = np.linalg.solve(codes.T @ codes + RIDGE * np.eye(6), codes.T @ rest)
        expected = offset + np.where(by_item.warm.any(axis=0), mean_user + centred @ taste, 0)
        assert np.abs(centred @ taste).max() > 0.05
        np.testing.assert_allclose(by_item.predictor.new_user_scores(COLS, RATINGS), expected, atol=1e-5)

    def test_influences_add_up_to_the_scores(self, by_item):
        for cols, ratings in [(COLS, RATINGS), by_item.rated(5)]:
            targets = np.arange(1, by_item.matrix.n_items)  # all but the cold item
            offset = by_item.baseline.mean + by_item.baseline.item_bias + by_item.baseline.new_user_bias(cols, ratings)
            influence = by_item.predictor.influence(cols, ratings, targets)
            assert influence.shape == (len(cols), len(targets))
            total = (offset + by_item.deviation.mean(axis=1))[targets] + influence.sum(axis=0)
            np.testing.assert_allclose(by_item.predictor.new_user_scores(cols, ratings)[targets], total, atol=1e-5)

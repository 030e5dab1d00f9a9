import numpy as np
import pytest
import torch

from saerec import SAE, BiasBaseline, RatingMatrix
from saerec.prediction import ItemPredictor, MeanPredictor, UserPredictor

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
        patch.setattr("saerec.batches.SPARSE_BELOW", 1.0 if request.param else 0.0)
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


def test_some_predictions_are_those_of_the_whole_rows(either, monkeypatch):
    """The cold are among them, a pair may come twice, and rows without a pair."""
    rng, matrix = np.random.default_rng(0), either.matrix
    rows = np.array([0, 3, 2, matrix.n_users - 1, 7])
    places, cols = rng.choice([0, 1, 3, 4], 60), rng.integers(0, matrix.n_items, 60)
    cols[:2] = 0
    assert len({*zip(places, cols)}) < 60
    mixed = MeanPredictor([either.predictor, either.predictor], (0.25, 0.75))
    expected = either.predictor.scores(rows)[places, cols]
    monkeypatch.setattr("saerec.prediction.PAIRS_AT_ONCE", 7)
    for share in (0.0, 1e9):
        monkeypatch.setattr("saerec.prediction.FEW", share)
        if share:
            monkeypatch.setattr(type(either.predictor), "scores", None)
        for predictor in (either.predictor, mixed):
            found = predictor.at(rows, places, cols)
            assert found.dtype == np.float32 and found.shape == (60,)
            np.testing.assert_allclose(found, expected, atol=1e-5)


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


@pytest.mark.parametrize("n", [1, 2, 4])
def test_influence_is_the_change_of_the_prediction_when_the_rating_is_left_out(either, n):
    """Their bias changes too, and of no ratings the networks say nothing; the first target is the cold item."""
    cols, ratings, targets = COLS[:n], RATINGS[:n], np.array([0, 5, 1, 3, 9])
    scores = either.predictor.new_user_scores(cols, ratings)
    without = [either.predictor.new_user_scores(np.delete(cols, i), np.delete(ratings, i)) for i in range(n)]
    influence = either.predictor.influence(cols, ratings, targets)
    np.testing.assert_allclose(influence, (scores - without)[:, targets], atol=1e-5)
    assert (np.abs(influence).mean(axis=0) > 0.05).all()


def test_influence_of_all_ratings_of_each_user_is_that_of_leaving_them_out(either):
    targets = np.arange(either.matrix.n_items)
    for row in range(0, either.matrix.n_users - 1, 5):
        cols, ratings = either.rated(row)
        scores = either.predictor.new_user_scores(cols, ratings)
        without = [
            either.predictor.new_user_scores(np.delete(cols, i), np.delete(ratings, i)) for i in range(len(cols))
        ]
        np.testing.assert_allclose(either.predictor.influence(cols, ratings, targets), scores - without, atol=2e-5)


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

"""From a trained autoencoder to predictions: for its users, for somebody new, and what each rating did for them.

Both layouts answer the same three questions, for whole rows of users and before clipping to the scale of the ratings:
`scores`, `new_user_scores` and `influence`.
"""

from collections.abc import Sequence

import numpy as np
import torch

from saerec.baselines import BiasBaseline
from saerec.model import SAE, store_by_column
from saerec.ratings import RatingMatrix
from saerec.training import Batch, Cells, RatingRows


class UserPredictor:
    """Predictions of an autoencoder whose row is a user: a forward pass each."""

    def __init__(
        self,
        model: SAE,
        ratings: RatingMatrix,
        baseline: BiasBaseline,
        *,
        mask_weight: float = 2.0,
        device: str = "cpu",
    ):
        self.model = model
        self.baseline = baseline
        self.rows = RatingRows(ratings, baseline, mask_weight=mask_weight, device=device)
        if self.rows.sparse:
            store_by_column(model)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Predictions of all items for the users at `rows`: (B, I) float32, stars."""
        return self.rows.predict(self.model, self.rows.batch(rows))

    def new_user_scores(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """Predictions of all items for somebody who gave `ratings` to the items at `cols`: (I,) float32, stars."""
        return self.rows.predict(self.model, *self._new_user(cols, ratings))[0]

    @torch.no_grad()
    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How far each of n ratings moves the predictions of t items, against leaving it out: (n, t) float32, stars.

        The person's bias stays that of all their ratings. Leaving a rating out takes one column from the sum that
        enters the first hidden layer, so only the layers after it are computed n times.
        """
        self.model.eval()
        first, *later = self.model.hidden
        batch, _ = self._new_user(cols, ratings)
        values = batch.deviations + self.rows.mask_weight  # (n,)
        share = first.weight[:, cols].T * values[:, None]  # (n, H), of each rating in what enters
        entering = share.sum(dim=0, keepdim=True) + first.bias  # (1, H)
        without = entering - share  # (n, H)
        outputs = []
        for hidden in (entering, without):
            for layer in later:
                hidden = layer(hidden)
            outputs.append(hidden @ self.model.output.weight[targets].T + self.model.output.bias[targets])
        moved = outputs[0] - outputs[1] if len(cols) > 1 else outputs[0]  # of no ratings the network says nothing
        moved = self.rows.unit * moved
        known = self.rows.ratings.item_counts[targets] > 0
        return np.where(known, moved.cpu().numpy(), 0)

    def _new_user(self, cols: np.ndarray, ratings: np.ndarray) -> tuple[Batch, np.ndarray]:
        """Their row, and what the biases say of all items: (1, I), stars."""
        bias = np.float32(self.baseline.new_user_bias(cols, ratings))
        offset = self.baseline.predict(np.array([[-1]]), np.arange(self.rows.ratings.n_items)) + bias
        deviations = (np.asarray(ratings, dtype=np.float32) - offset[0, cols]) / np.float32(self.rows.unit)
        cells = Cells(torch.tensor([0, len(cols)]), torch.from_numpy(np.asarray(cols, dtype=np.int64)))
        device = self.rows.device
        return Batch(
            cells.to(device), torch.from_numpy(deviations).to(device), torch.zeros(1, 0, device=device)
        ), offset


class MeanPredictor:
    """The mean of what several predictors say."""

    def __init__(self, predictors: Sequence["UserPredictor | ItemPredictor"]):
        self.predictors = predictors

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """As of each."""
        return np.mean([predictor.scores(rows) for predictor in self.predictors], axis=0)

    def new_user_scores(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """As of each."""
        return np.mean([predictor.new_user_scores(cols, ratings) for predictor in self.predictors], axis=0)

    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """As of each."""
        return np.mean([predictor.influence(cols, ratings, targets) for predictor in self.predictors], axis=0)


class ItemPredictor:
    """Predictions of an autoencoder whose row is an item: a user's output weights times the items' codes.

    Somebody new has no output weights. They are found by ridge regression: the mean user's weights plus the deviation d
    that minimises ``|x - C d|² + ridge |d|²``, where C holds the codes of the items they rated (less the mean code of
    all items) and x what the biases and the mean user leave of their ratings. In its dual form, ``d = C' a`` with ``a =
    (C C' + ridge)⁻¹ x``, which also tells each rating's share of a prediction.
    """

    def __init__(
        self,
        model: SAE,
        ratings: RatingMatrix,
        baseline: BiasBaseline,
        *,
        ridge: float = 100.0,
        mask_weight: float = 2.0,
        features: np.ndarray | None = None,
        device: str = "cpu",
    ):
        self.ratings = ratings
        self.baseline = baseline
        self.ridge = ridge
        rows = RatingRows(ratings.T, baseline.T, mask_weight=mask_weight, features=features, device=device)
        self.codes = self._encode(model, rows)
        self.centred_codes = self.codes - self.codes.mean(axis=0)
        self.weights = rows.unit * model.output.weight.detach().cpu().numpy()  # (U, H), stars
        self.bias = rows.unit * model.output.bias.detach().cpu().numpy()  # (U,), stars
        self.mean_user = self.codes @ self.weights.mean(axis=0) + self.bias.mean()  # (I,)

    @staticmethod
    @torch.no_grad()
    def _encode(model: SAE, rows: RatingRows) -> np.ndarray:
        """The last hidden layer for every item: (I, H) float32."""
        model.eval()
        positions = np.arange(rows.ratings.n_users)
        chunks = np.array_split(positions, max(1, len(positions) // 256))
        return torch.cat([rows.ends(model, rows.batch(chunk))[0].cpu() for chunk in chunks]).numpy()

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Predictions of all items for the users at `rows`: (B, I) float32, stars."""
        deviation = self.weights[rows] @ self.codes.T + self.bias[rows, None]  # (B, H) @ (H, I) -> (B, I)
        known = (self.ratings.user_counts[rows, None] > 0) & (self.ratings.item_counts > 0)
        return self.baseline.predict(rows[:, None], np.arange(self.ratings.n_items)) + np.where(known, deviation, 0)

    def new_user_scores(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """Predictions of all items for somebody who gave `ratings` to the items at `cols`: (I,) float32, stars."""
        offset = self._offset(cols, ratings)
        if len(cols) == 0:
            return offset
        taste = self._dual(cols, ratings) @ self.centred_codes[cols]  # (n,) @ (n, H) -> (H,)
        deviation = self.mean_user + self.centred_codes @ taste  # (I,)
        return (offset + np.where(self.ratings.item_counts > 0, deviation, 0)).astype(np.float32)

    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Each of n ratings' share of the predictions of t items, by the dual ridge solution: (n, t) float64, stars.

        For somebody new this is exact. Users of the training data have weights of their own, which the ridge regression
        only approximates: what it says of them is a likely reason, not an account.
        """
        shares = self.centred_codes[cols] @ self.centred_codes[targets].T  # (n, H) @ (H, t) -> (n, t)
        return self._dual(cols, ratings)[:, None] * shares * (self.ratings.item_counts[targets] > 0)

    def _offset(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        bias = np.float32(self.baseline.new_user_bias(cols, ratings))
        return self.baseline.predict(np.array(-1), np.arange(self.ratings.n_items)) + bias

    def _dual(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """The weight of each rating, `a` above: (n,) float64."""
        rest = ratings - self._offset(cols, ratings)[cols] - self.mean_user[cols]
        codes = self.centred_codes[cols].astype(np.float64)
        return np.linalg.solve(codes @ codes.T + self.ridge * np.eye(len(cols)), rest)

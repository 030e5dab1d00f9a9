"""From a trained autoencoder to predictions: for its users, for somebody new, and what each rating did for them.

All layouts answer the same questions, before clipping to the scale of the ratings: `scores` for whole rows of users,
`at` for some of their items, `new_user_scores`, and `influence`: by how much each rating of somebody new changes their
predictions, against leaving it out. Of a known user that is exact where a row is a user; where a row is an item they
have weights of their own, trained with all their ratings, and it says what would happen to somebody new with the same
ratings. The mean of two is for known users; somebody new is for one of them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from saerec.baselines import TINY, BiasBaseline
from saerec.batches import Batch, Cells, RatingRows
from saerec.model import SAE, store_by_column
from saerec.ratings import RatingMatrix

FEW = 0.005  # share of all cells of some rows
PAIRS_AT_ONCE = 2**15


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

    @torch.no_grad()
    def at(self, rows: np.ndarray, places: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Of these users' predictions those of N pairs, a place among `rows` and a column: (N,) float32, stars."""
        if not _few(rows, cols, self.rows.ratings):
            return self.scores(rows)[places, cols]
        self.model.eval()
        code, weight, bias = self.rows.ends(self.model, self.rows.batch(rows))
        chunks = np.array_split(np.arange(len(cols)), len(cols) // PAIRS_AT_ONCE + 1)
        products = [(code[places[some]] * weight[cols[some]]).sum(dim=1) for some in chunks]
        written = torch.cat(products).cpu().numpy() + bias.cpu().numpy()[cols]
        rows = rows[places]
        return self.rows.says(written, self.rows.ratings.user_counts[rows] > 0, cols) + self.rows.offset(rows, cols)

    def new_user_scores(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """Predictions of all items for somebody who gave `ratings` to the items at `cols`: (I,) float32, stars."""
        return self.rows.predict(self.model, *self._new_user(cols, ratings))[0]

    @torch.no_grad()
    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How far each of n ratings moves the predictions of t items, against leaving it out: (n, t), stars.

        Leaving a rating out takes one column from the sum that enters the first hidden layer, and shifts all others a
        little with the person's bias, so only the layers after it are computed n times.
        """
        self.model.eval()
        first, *later = self.model.hidden
        batch, _ = self._new_user(cols, ratings)
        values = batch.deviations + self.rows.mask_weight  # (n,)
        columns = first.weight[:, cols].T  # (n, H)
        entering = values @ columns + first.bias  # (H,)
        bias_change = _bias_changes(self.baseline, cols, ratings)  # (n,)
        shift = torch.from_numpy((bias_change / self.rows.unit).astype(np.float32)).to(values.device)
        without = entering + shift[:, None] * columns.sum(dim=0) - (values + shift)[:, None] * columns  # (n, H)
        outputs = []
        for hidden in (entering[None], without):
            for layer in later:
                hidden = layer(hidden)
            outputs.append(hidden @ self.model.output.weight[targets].T + self.model.output.bias[targets])
        moved = outputs[0] - outputs[1] if len(cols) > 1 else outputs[0]  # of no ratings the network says nothing
        moved = (self.rows.unit * moved).cpu().numpy()
        return bias_change[:, None] + np.where(self.rows.ratings.item_counts[targets] > 0, moved, 0)

    def _new_user(self, cols: np.ndarray, ratings: np.ndarray) -> tuple[Batch, np.ndarray]:
        """Their row, and what the biases say of all items: (1, I), stars."""
        bias = np.float32(self.baseline.new_user_bias(cols, ratings))
        offset = self.baseline.predict(np.array([[-1]]), np.arange(self.rows.ratings.n_items)) + bias
        deviations = (np.asarray(ratings, dtype=np.float32) - offset[0, cols]) / np.float32(self.rows.unit)
        starts, cols = torch.tensor([0, len(cols)]), torch.from_numpy(np.asarray(cols, dtype=np.int64))
        cells = Cells(starts, cols, self.rows.ratings.n_items)
        device = self.rows.device
        return Batch(
            cells.to(device), torch.from_numpy(deviations).to(device), torch.zeros(1, 0, device=device)
        ), offset


class MeanPredictor:
    """The mean of what several predictors say of known users, each with its weight."""

    def __init__(self, predictors: Sequence["UserPredictor | ItemPredictor"], weights: Sequence[float]):
        self.predictors = predictors
        self.weights = weights

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """As of each."""
        return self._mean(predictor.scores(rows) for predictor in self.predictors)

    def at(self, rows: np.ndarray, places: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """As of each."""
        return self._mean(predictor.at(rows, places, cols) for predictor in self.predictors)

    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """As of each."""
        return self._mean(predictor.influence(cols, ratings, targets) for predictor in self.predictors)

    def _mean(self, each: Iterable[np.ndarray]) -> np.ndarray:
        return sum(weight * said for weight, said in zip(self.weights, each))


class ItemPredictor:
    """Predictions of an autoencoder whose row is an item: a user's output weights times the items' codes.

    Somebody new has no output weights. They are found by ridge regression: the mean user's weights plus the deviation d
    that minimises ``|x - C d|² + ridge |d|²``, where C holds the codes of the items they rated (less the mean code of
    all items) and x what the biases and the mean user leave of their ratings. In its dual form, ``d = C' a`` with ``a =
    (C C' + ridge)⁻¹ x``.
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

    def at(self, rows: np.ndarray, places: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Of these users' predictions those of N pairs, a place among `rows` and a column: (N,) float32, stars."""
        if not _few(rows, cols, self.ratings):
            return self.scores(rows)[places, cols]
        rows = rows[places]
        chunks = np.array_split(np.arange(len(cols)), len(cols) // PAIRS_AT_ONCE + 1)
        products = [np.einsum("nh,nh->n", self.weights[rows[some]], self.codes[cols[some]]) for some in chunks]
        deviation = np.concatenate(products) + self.bias[rows]
        known = (self.ratings.user_counts[rows] > 0) & (self.ratings.item_counts[cols] > 0)
        return self.baseline.predict(rows, cols) + np.where(known, deviation, 0)

    def new_user_scores(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """Predictions of all items for somebody who gave `ratings` to the items at `cols`: (I,) float32, stars."""
        offset = self._offset(cols, ratings)
        if len(cols) == 0:
            return offset
        taste = self._dual(cols, ratings) @ self.centred_codes[cols]  # (n,) @ (n, H) -> (H,)
        deviation = self.mean_user + self.centred_codes @ taste  # (I,)
        return (offset + np.where(self.ratings.item_counts > 0, deviation, 0)).astype(np.float32)

    def influence(self, cols: np.ndarray, ratings: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How far each of n ratings moves the predictions of t items, against leaving it out: (n, t) float64, stars.

        In closed form. With G the inverse of ``C C' + ridge`` and k = C c the products of the rated items' codes with
        the code c of a target, the prediction is ``k' G x`` and more; without rating i it is ``k' G x - (G k)_i (G x)_i
        / G_ii``, the leave-one-out of ridge regression (Rifkin and Lippert, "Notes on regularized least squares", MIT
        CSAIL technical report 2007-025, section 3), where x shifts with the person's bias.
        """
        codes = self.centred_codes[cols].astype(np.float64)
        products = codes @ self.centred_codes[targets].T.astype(np.float64)  # (n, t)
        sides = np.column_stack([products, np.ones(len(cols)), self._rest(cols, ratings)])
        solved, diagonal = self._solved(codes, sides)
        of_targets, of_ones, dual = solved[:, :-2], solved[:, -2], solved[:, -1]  # (n, t), (n,), (n,)
        bias_change = _bias_changes(self.baseline, cols, ratings)
        own = dual + bias_change * of_ones  # (n,), with the bias that is without i
        by_bias = bias_change[:, None] * -(of_ones @ products)  # (n, t)
        moved = by_bias + of_targets * (own / diagonal)[:, None]
        if len(cols) == 1:  # of no ratings the network says nothing, not even what it says of the mean user
            moved = moved + self.mean_user[targets]
        return bias_change[:, None] + np.where(self.ratings.item_counts[targets] > 0, moved, 0)

    def _offset(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        bias = np.float32(self.baseline.new_user_bias(cols, ratings))
        return self.baseline.predict(np.array(-1), np.arange(self.ratings.n_items)) + bias

    def _rest(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """What the biases and the mean user leave of their ratings, `x` above: (n,)."""
        return ratings - self._offset(cols, ratings)[cols] - self.mean_user[cols]

    def _solved(self, codes: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``G sides``, (n, s), and the diagonal of G, (n,), the inverse of ``C C' + ridge``.

        By way of ``C' C + ridge`` where that is smaller: somebody may have rated more than there are units.
        """
        if len(codes) <= codes.shape[1]:
            inverse = np.linalg.inv(self._gram(codes))
            return inverse @ sides, inverse.diagonal()
        spread = codes @ np.linalg.inv(self._gram(codes.T))  # (n, H)
        return (sides - spread @ (codes.T @ sides)) / self.ridge, (1 - (spread * codes).sum(axis=1)) / self.ridge

    def _gram(self, codes: np.ndarray) -> np.ndarray:
        return codes @ codes.T + self.ridge * np.eye(len(codes))

    def _dual(self, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """The weight of each rating, `a` above: (n,) float64."""
        return np.linalg.solve(self._gram(self.centred_codes[cols].astype(np.float64)), self._rest(cols, ratings))


Predictor = ItemPredictor | UserPredictor | MeanPredictor


def _few(rows: np.ndarray, cols: np.ndarray, ratings: RatingMatrix) -> bool:
    """Whether so few cells of these rows are asked for that one by one is faster than all of them."""
    return len(cols) < FEW * len(rows) * ratings.n_items


def _bias_changes(baseline: BiasBaseline, cols: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """The bias of somebody new, less what it is without each of their n ratings: (n,) float64, stars."""
    residual = np.asarray(ratings, dtype=float) - baseline.mean - baseline.item_bias[cols]
    without = (residual.sum() - residual) / max(len(residual) - 1 + baseline.shrinkage, TINY)
    return baseline.new_user_bias(cols, ratings) - without * baseline.users

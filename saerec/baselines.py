"""What every score is shown against: the plain means and regularised biases."""

import numpy as np

from saerec.ratings import RatingMatrix
from saerec.validation import check_fitted

TINY = np.finfo(float).tiny  # 0 ratings and no shrinkage: the bias is 0, not 0 / 0
SPREAD_SHRINKAGE = 5  # ratings


class BiasBaseline:
    """Predicts a rating as the global mean plus what this user and this item usually add to it.

    ``mean + user_bias[row] + item_bias[col]``, the biases being shrunk means of what the other terms leave over, in
    turn (Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 42(8),
    2009, eq. 3, solved by alternating shrunk means as in Koren, "Factor in the neighbors", TKDD 4(1), 2010, section
    2.1).

    Parameters
    ----------
    users, items : bool
        Whether to fit a bias for every user, every item. Neither: the global mean.
    shrinkage : float, ratings
        A bias is the sum of its residuals over their number plus this. 0: plain means.
    n_sweeps : int
        How often items, then users, are solved.

    Attributes
    ----------
    mean : float, stars
    user_bias, item_bias : ndarray of shape (U,) and (I,), float32, stars
        0 for who has no rating.
    spread : float, stars
        The root mean square of what all this leaves over.
    user_spread, item_spread : ndarray of shape (U,) and (I,), float32, stars
        The same of each user's and each item's ratings, as if each had five more with the spread of all.
    """

    def __init__(self, *, users: bool = True, items: bool = True, shrinkage: float = 5.0, n_sweeps: int = 5):
        self.users = users
        self.items = items
        self.shrinkage = shrinkage
        self.n_sweeps = n_sweeps

    def fit(self, train: RatingMatrix) -> "BiasBaseline":
        """Fit the mean and the biases to the observed entries of `train`."""
        if self.shrinkage < 0:
            raise ValueError(f"shrinkage must not be negative, but is {self.shrinkage}")
        self.mean = float(train.csr.data.mean(dtype=np.float64))
        user_bias, item_bias = np.zeros(train.n_users), np.zeros(train.n_items)
        for _ in range(self.n_sweeps):
            if self.items:
                sums = np.zeros(train.n_items)
                for block in train.blocks():
                    rows, cols, ratings = train.coordinates(*block)
                    residual = ratings - self.mean - user_bias[rows]
                    sums += np.bincount(cols, weights=residual, minlength=train.n_items)
                item_bias = self._shrunk(sums, train.item_counts)
            if self.users:
                sums = np.zeros(train.n_users)
                for start, stop in train.blocks():
                    rows, cols, ratings = train.coordinates(start, stop)
                    residual = ratings - self.mean - item_bias[cols]
                    sums[start:stop] = np.bincount(rows - start, weights=residual, minlength=stop - start)
                user_bias = self._shrunk(sums, train.user_counts)
        self.user_bias, self.item_bias = user_bias.astype(np.float32), item_bias.astype(np.float32)
        return self.measure_spread(train)

    def measure_spread(self, train: RatingMatrix) -> "BiasBaseline":
        """Measure what the biases leave over of `train`: the three attributes of that name. `fit` does it too."""
        of_users, of_items = np.zeros(train.n_users), np.zeros(train.n_items)  # sums of squares
        for start, stop in train.blocks():
            rows, cols, ratings = train.coordinates(start, stop)
            squared = (ratings.astype(float) - self.predict(rows, cols)) ** 2
            of_users[start:stop] = np.bincount(rows - start, weights=squared, minlength=stop - start)
            of_items += np.bincount(cols, weights=squared, minlength=train.n_items)
        self.spread = float(np.sqrt(of_users.sum() / train.n_ratings))
        self.user_spread = self._spreads(of_users, train.user_counts)
        self.item_spread = self._spreads(of_items, train.item_counts)
        return self

    def _spreads(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.sqrt((sums + SPREAD_SHRINKAGE * self.spread**2) / (counts + SPREAD_SHRINKAGE)).astype(np.float32)

    def _shrunk(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return sums / np.maximum(counts + self.shrinkage, TINY)

    def predict(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Predicted ratings of the pairs (row, col), broadcast: ndarray, float32, stars. -1 is unknown: no bias."""
        check_fitted(self, "mean")
        user_bias, item_bias = np.append(self.user_bias, np.float32(0)), np.append(self.item_bias, np.float32(0))
        return np.float32(self.mean) + user_bias[rows] + item_bias[cols]

    def new_user_bias(self, cols: np.ndarray, ratings: np.ndarray) -> float:
        """The bias, in stars, of somebody who was not in `train` and gave these `ratings` to the items at `cols`."""
        check_fitted(self, "mean")
        residual = np.asarray(ratings, dtype=float) - self.mean - self.item_bias[cols]
        return float(residual.sum() / max(len(residual) + self.shrinkage, TINY)) if self.users else 0.0

    def new_user_spread(self, cols: np.ndarray, ratings: np.ndarray) -> float:
        """Their `user_spread`, in stars."""
        bias = self.new_user_bias(cols, ratings)
        squared = (np.asarray(ratings, dtype=float) - self.mean - self.item_bias[cols] - bias) ** 2
        return float(self._spreads(squared.sum(keepdims=True), np.array([len(squared)]))[0])

    @property
    def T(self) -> "BiasBaseline":
        """The same baseline for the transposed matrix: user and item biases change places."""
        check_fitted(self, "mean")
        other = BiasBaseline(users=self.items, items=self.users, shrinkage=self.shrinkage, n_sweeps=self.n_sweeps)
        other.mean, other.user_bias, other.item_bias = self.mean, self.item_bias, self.user_bias
        other.spread, other.user_spread, other.item_spread = self.spread, self.item_spread, self.user_spread
        return other


def fit_baselines(train: RatingMatrix, *, shrinkage: float = 5.0) -> dict[str, BiasBaseline]:
    """The four baselines by name, fitted: global mean, user means, item means, regularised biases."""
    baselines = {
        "global mean": BiasBaseline(users=False, items=False),
        "user means": BiasBaseline(items=False, shrinkage=0),
        "item means": BiasBaseline(users=False, shrinkage=0),
        "regularised biases": BiasBaseline(shrinkage=shrinkage),
    }
    return {name: baseline.fit(train) for name, baseline in baselines.items()}

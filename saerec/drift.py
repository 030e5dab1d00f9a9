"""How far a user's ratings around a moment lie above or below their usual ones: for predictions of a known moment."""

import numpy as np

from saerec.baselines import BiasBaseline
from saerec.ratings import RatingMatrix

N_AROUND = 20  # ratings before a moment, and as many after it
SHRINKAGES = (3.0, 5.0, 10.0, 20.0, 40.0)  # ratings; from which validation chooses


class UserDrift:
    """What a user's ratings given close to a moment say of another one given then.

    People rate in sittings: what stands close in time is alike, in mood or because alike items come together, and
    people change over the years. Of rating n of a user, e[n] is how far it lies above what the biases predict, less the
    user's mean of that. At a moment t, ::

        drift = sum(w[n] e[n]) / (sum(w[n]) + shrinkage),   w[n] = 1 / (1 + minutes between t and rating n)

    over the `N_AROUND` ratings before t and as many after it; of ratings at t itself half count as before. Biases that
    move with time are from Koren, "Collaborative filtering with temporal dynamics", KDD 2009, section 3, where they are
    parameters to be learnt; this is a kernel mean instead. It is for ratings that were not learnt from: of one that
    was, it knows the answer.

    Of no use for lists: all items move by as much, and of the moment to come nothing is known but how long ago the last
    ratings are.

    Parameters
    ----------
    shrinkage : float, ratings
        See `best_shrinkage`.

    Attributes
    ----------
    times : ndarray of shape (N,), int64, seconds since 1970
        Of the training ratings: user after user, each user's in order.
    errors : ndarray of shape (N,), float32, stars
        e of the same.
    starts : ndarray of shape (U + 1,), int
        Where among them each user's begin.
    """

    def __init__(self, shrinkage: float = 10.0):
        self.shrinkage = shrinkage

    def fit(self, ratings: RatingMatrix, times: np.ndarray, baseline: BiasBaseline) -> "UserDrift":
        """Take over training ratings; `times`, (N,), are those of ``ratings.coordinates()``, int64, seconds."""
        rows, cols, rating = ratings.coordinates()
        errors = rating - baseline.predict(rows, cols)
        means = np.bincount(rows, errors, ratings.n_users) / np.maximum(ratings.user_counts, 1)
        order = np.lexsort((times, rows))
        self.times, self.errors = times[order], (errors - means[rows]).astype(np.float32)[order]
        self.starts = ratings.csr.indptr
        return self

    def sums(self, rows: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums of w e, stars, and of w, for the users at `rows` (-1: unknown) at `times`: (M,) float64 each."""
        first, last = int(self.times.min()), int(self.times.max())
        span = last - first + 2
        # One number for user and moment, in the order of both.
        keys = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts)) * span + (self.times - first)
        asked = rows * span + (np.clip(times, first, last + 1) - first)
        place = (np.searchsorted(keys, asked) + np.searchsorted(keys, asked, side="right")) // 2
        weighted, weights = np.zeros(len(rows)), np.zeros(len(rows))
        for step in range(-N_AROUND, N_AROUND):
            near = place + step
            own = np.flatnonzero((rows >= 0) & (near >= self.starts[rows]) & (near < self.starts[rows + 1]))
            near = near[own]
            weight = 1 / (1 + np.abs(self.times[near] - times[own]) / 60)
            weighted[own] += weight * self.errors[near]
            weights[own] += weight
        return weighted, weights

    def predict(self, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        """What to add to predictions for the users at `rows` (-1: unknown, 0) at `times`: (M,) float32, stars."""
        weighted, weights = self.sums(rows, times)
        return (weighted / (weights + self.shrinkage)).astype(np.float32)

    def best_shrinkage(
        self,
        rows: np.ndarray,
        times: np.ndarray,
        predicted: np.ndarray,
        rating: np.ndarray,
        scale: tuple[float, float],
    ) -> float | None:
        """The one of `SHRINKAGES` that suits validation ratings best; None if without the drift errors are no larger.

        Parameters
        ----------
        rows, times
            As of `predict`.
        predicted, rating : ndarrays of shape (M,), stars
            Without the drift; and what was given.
        scale : two floats
            To which predictions are clipped.
        """
        weighted, weights = self.sums(rows, times)
        drifts = {None: 0.0} | {shrinkage: weighted / (weights + shrinkage) for shrinkage in SHRINKAGES}
        rating = np.asarray(rating, dtype=float)
        errors = {name: np.square((predicted + drift).clip(*scale) - rating).mean() for name, drift in drifts.items()}
        return min(errors, key=errors.get)  # of equals the first

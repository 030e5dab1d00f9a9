"""How far a prediction may be off: intervals that hold a stated share of ratings, calibrated on held-out ones."""

import numpy as np

N_FEATURES = 4  # of `describe`
N_SPREADS = 2  # of these, the first
N_GROUPS = 5  # of predictions, from low to high
LEAST_IN_A_GROUP = 20  # ratings
LEVELS = np.linspace(0, 1, 101)
COVERAGE = 0.8  # of the error bars of lists
TINY = 1e-6  # stars: logarithms are taken
PRIOR = 5.0  # penalty on the coefficients, as against the deviance of one rating


class PredictionIntervals:
    """Half-widths of intervals around predictions, from what is known of user and item.

    Two steps. The expected absolute error is the exponential of a linear function of `features`, fitted by Poisson
    regression. Errors divided by it are then nearly alike, and of these the quantiles that held-out ratings show say
    how many of it an interval takes (normalised conformal prediction: Papadopoulos, Gammerman and Vovk, "Normalized
    nonconformity measures for regression conformal prediction", AIA 2008). The quantiles are taken in five groups by
    prediction and interpolated between the groups' medians, for where the scale ends errors are of another shape.

    Attributes
    ----------
    coefficients : ndarray of shape (1 + F,), float64
        Of the logarithm of the expected absolute error in stars: intercept, then by feature.
    centres : ndarray of shape (G,), float64, stars
        The median prediction of each group.
    quantiles : ndarray of shape (G, 101), float64
        Of |error| / expected error in each group, from 0 to 100 %.
    """

    def fit(self, features: np.ndarray, predicted: np.ndarray, rating: np.ndarray) -> "PredictionIntervals":
        """Calibrate on held-out ratings.

        Parameters
        ----------
        features : ndarray of shape (N, F)
        predicted, rating : ndarrays of shape (N,), stars
        """
        from sklearn.linear_model import PoissonRegressor  # here, for it takes a second to import

        error = np.maximum(np.abs(np.asarray(rating, dtype=float) - predicted), TINY)
        regression = PoissonRegressor(alpha=PRIOR / len(error), max_iter=1000, tol=1e-8)
        regression.fit(features, error / error.mean())
        narrows = np.flatnonzero(regression.coef_[:N_SPREADS] < 0)
        if len(narrows):  # that ratings scatter more makes nobody surer: by chance it may seem so
            regression.fit(np.where(np.isin(np.arange(features.shape[1]), narrows), 0, features), error / error.mean())
            regression.coef_[:N_SPREADS] = regression.coef_[:N_SPREADS].clip(0)
        self.coefficients = np.append(regression.intercept_ + np.log(error.mean()), regression.coef_)
        order = np.argsort(predicted, kind="stable")
        groups = np.array_split(order, np.clip(len(order) // LEAST_IN_A_GROUP, 1, N_GROUPS))
        self.centres = np.array([np.median(predicted[group]) for group in groups], dtype=float)
        relative = error / self.expected_error(features)
        self.quantiles = np.array([np.quantile(relative[group], LEVELS) for group in groups])
        return self

    def expected_error(self, features: np.ndarray) -> np.ndarray:
        """The expected absolute error: (N,) float64, stars."""
        return np.exp(self.coefficients[0] + features @ self.coefficients[1:])

    def factors(self, coverage: float) -> np.ndarray:
        """How many expected errors the half of an interval takes at each of `centres`: (G,) float64.

        Raises
        ------
        ValueError
            A coverage that is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is a share of the ratings: above 0 and below 1, not {coverage}")
        return np.array([np.interp(coverage, LEVELS, quantiles) for quantiles in self.quantiles])

    def half_width(self, features: np.ndarray, predicted: np.ndarray, coverage: float = COVERAGE) -> np.ndarray:
        """Half the interval around each prediction that holds the share `coverage` of ratings: (N,) float32, stars."""
        factor = np.interp(predicted, self.centres, self.factors(coverage))
        return (factor * self.expected_error(features)).astype(np.float32)


def describe(
    user_counts: np.ndarray, user_spread: np.ndarray, item_counts: np.ndarray, item_spread: np.ndarray
) -> np.ndarray:
    """What is known of user and item, as `features`: (N, 4) float64.

    The logarithms of their numbers of training ratings (and 1) and of the spread of these around the biases, stars; all
    of shape (N,).
    """
    counts = [np.log1p(counts) for counts in (user_counts, item_counts)]
    spreads = [np.log(np.maximum(spread, TINY)) for spread in (user_spread, item_spread)]
    return np.column_stack([*spreads, *counts]).astype(float)

"""Errors in stars. Sums and counts first, one division at the end: an average of averages is not an average."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saerec.validation import MissingIdError


def masked_squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, int]:
    """The sum of squared errors over the observed cells, and their number.

    Parameters
    ----------
    prediction, target : Tensor of shape (B, I), float32, stars
        What stands in unobserved cells of either, even NaN, changes neither the sum nor its gradient.
    mask : Tensor of shape (B, I), bool
        True where observed.

    Returns
    -------
    sum : Tensor of shape (), float32, stars²
        Differentiable in `prediction`.
    count : int
    """
    error = torch.where(mask, prediction - target, 0.0)  # (B, I)
    return error.square().sum(), int(mask.sum())


def rmse(rating: np.ndarray, predicted: np.ndarray) -> float:
    """The root of the mean squared error over all ratings, stars."""
    return float(np.sqrt(np.mean(_errors(rating, predicted) ** 2)))


def mae(rating: np.ndarray, predicted: np.ndarray) -> float:
    """The mean absolute error over all ratings, stars."""
    return float(np.mean(np.abs(_errors(rating, predicted))))


def user_rmse(rating: np.ndarray, predicted: np.ndarray, user_ids: np.ndarray) -> float:
    """The mean over users of each user's RMSE, stars: what the original study printed.

    Users count alike, however much they rated.
    """
    squared = pd.Series(_errors(rating, predicted) ** 2)
    if pd.isna(user_ids).any():
        raise MissingIdError("a rating has no user_id: every rating must count, none be left out")
    return float(np.sqrt(squared.groupby(np.asarray(user_ids)).mean()).mean())


def scores(rating: np.ndarray, predicted: np.ndarray, user_ids: np.ndarray) -> dict[str, float]:
    """The three errors by name, stars: rmse, user_rmse, mae."""
    return {
        "rmse": rmse(rating, predicted),
        "user_rmse": user_rmse(rating, predicted, user_ids),
        "mae": mae(rating, predicted),
    }


def error_by(rating: np.ndarray, predicted: np.ndarray, group: np.ndarray | pd.Categorical) -> pd.DataFrame:
    """The errors of each group of ratings: n_ratings, rmse, mae and bias (mean predicted − rating) of each, stars."""
    error = pd.Series(_errors(rating, predicted))
    group = pd.Series(group).reset_index(drop=True)  # by position, whatever its index
    frame = pd.DataFrame({"n_ratings": 1, "rmse": error**2, "mae": error.abs(), "bias": error})
    groups = frame.groupby(group, observed=True).agg(
        {"n_ratings": "sum", "rmse": "mean", "mae": "mean", "bias": "mean"}
    )
    return groups.assign(rmse=np.sqrt(groups["rmse"]))


def quantile_groups(values: np.ndarray, n_groups: int = 5) -> pd.Categorical:
    """Numbers in up to `n_groups` groups of about equal size, labelled "lowest–highest"."""
    values = np.asarray(values)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n_groups + 1)))
    group = np.searchsorted(edges[1:-1], values, side="left")
    form = "{:,}–{:,}" if np.issubdtype(values.dtype, np.integer) else "{:,.6g}–{:,.6g}"
    ends = pd.Series(values).groupby(group).agg(["min", "max"])
    labels = pd.Series([form.format(*pair) for pair in zip(ends["min"], ends["max"])], index=ends.index)
    return pd.Categorical(labels.loc[group], categories=labels, ordered=True)


def _errors(rating: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    rating, predicted = np.asarray(rating, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if rating.shape != predicted.shape or rating.size == 0:
        raise ValueError(
            f"need as many predictions as ratings and at least one, not {predicted.shape} and {rating.shape}"
        )
    if np.isnan(predicted).any() or np.isnan(rating).any():
        raise ValueError("a rating or a prediction is NaN: every rating must be scored, none left out")
    return predicted - rating

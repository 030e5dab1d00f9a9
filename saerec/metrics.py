"""Errors in stars, and what lists are worth. Sums and counts first, one division at the end."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saerec.ratings import RatingMatrix
from saerec.validation import EmptyDataError, MissingIdError, UnknownIdError


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


def ndcg(lists: pd.DataFrame, relevant: pd.DataFrame, k: int = 10) -> float:
    """The mean over users of the normalised discounted cumulative gain of their lists' first `k` places.

    A relevant item at rank r gains 1 / log2(r + 1) (Järvelin and Kekäläinen, TOIS 2002), and the sum is divided by that
    of the best possible list. Users with relevant items and no list count as 0, users without relevant items not at
    all.

    Parameters
    ----------
    lists : DataFrame
        With user_id, rank (from 1) and item_id, as `Recommender.recommend` returns it.
    relevant : DataFrame
        With user_id and item_id, each pair once: what should have been in the lists.
    """
    hits = _hits(lists, relevant, k)
    gain = (1 / np.log2(hits["rank"] + 1)).groupby(hits["user_id"]).sum()
    best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    wanted = relevant.groupby("user_id").size()
    return float((gain.reindex(wanted.index, fill_value=0) / best[wanted.clip(upper=k) - 1]).mean())


def recall(lists: pd.DataFrame, relevant: pd.DataFrame, k: int = 10) -> float:
    """The mean over users of the share of their relevant items that stand in the first `k` places of their lists.

    Users are counted as by `ndcg`.
    """
    wanted = relevant.groupby("user_id").size()
    found = _hits(lists, relevant, k).groupby("user_id").size()
    return float((found.reindex(wanted.index, fill_value=0) / wanted).mean())


def list_scores(lists: pd.DataFrame, held_out: pd.DataFrame, ratings: RatingMatrix, k: int = 10) -> dict[str, float]:
    """What lists are worth, by name, against held-out ratings.

    Parameters
    ----------
    lists : DataFrame
        Of all users that `held_out` has: user_id, rank and item_id; at least `k` places where there are so many items.
    held_out : DataFrame
        user_id, item_id and rating. Relevant are the liked: `RatingMatrix.liked_from`, 4 stars and more of 0.5 to 5.
    ratings : RatingMatrix
        What the lists were made from.

    Returns
    -------
    dict
        ndcg and recall of the first k places; coverage, the share of all items that stand in a list; popularity, the
        mean number of ratings of a listed item; and novelty, in bits, the mean of -log2 of the share of users who
        rated it (Zhou et al., PNAS 2010), an item without ratings counting as one with one.

    Raises
    ------
    EmptyDataError
        Nothing held out was liked.
    UnknownIdError
        A list holds an item that `ratings` lacks.
    """
    relevant = held_out[held_out["rating"] >= ratings.liked_from]
    if relevant.empty:
        raise EmptyDataError(f"no held-out rating is at least {ratings.liked_from:g}: there is nothing to find")
    first = lists[lists["rank"] <= k]
    cols = ratings.item_ids.get_indexer(first["item_id"])
    if (cols < 0).any():
        unknown = first["item_id"][cols < 0].tolist()[0]
        raise UnknownIdError(
            f"a list holds item {unknown!r}, which is not among the {ratings.n_items:,} of the ratings"
        )
    counts = ratings.item_counts[cols]
    return {
        "ndcg": ndcg(lists, relevant, k),
        "recall": recall(lists, relevant, k),
        "coverage": first["item_id"].nunique() / ratings.n_items,
        "popularity": float(counts.mean()),
        "novelty": float(-np.log2(np.maximum(counts, 1) / ratings.n_users).mean()),
    }


def _hits(lists: pd.DataFrame, relevant: pd.DataFrame, k: int) -> pd.DataFrame:
    pair = ["user_id", "item_id"]
    return lists.loc[lists["rank"] <= k, [*pair, "rank"]].merge(relevant[pair], on=pair)


def error_by(rating: np.ndarray, predicted: np.ndarray, group: np.ndarray | pd.Categorical) -> pd.DataFrame:
    """The errors of each group of ratings: n_ratings, rmse, mae and bias (mean predicted − rating) of each, stars."""
    error = pd.Series(_errors(rating, predicted))
    group = pd.Series(group).reset_index(drop=True)  # by position, whatever its index
    frame = pd.DataFrame({"n_ratings": 1, "rmse": error**2, "mae": error.abs(), "bias": error})
    groups = frame.groupby(group, observed=True).agg(
        {"n_ratings": "sum", "rmse": "mean", "mae": "mean", "bias": "mean"}
    )
    return groups.assign(rmse=np.sqrt(groups["rmse"]))


def coverage_by(
    rating: np.ndarray, low: np.ndarray, high: np.ndarray, group: np.ndarray | pd.Categorical
) -> pd.DataFrame:
    """How often intervals hold the rating, in each group: n_ratings, inside (the share that is) and mean width, stars.

    Parameters
    ----------
    rating, low, high, group : of shape (N,)
        See `Recommender.predict_interval`.
    """
    rating, low, high = (np.asarray(values, dtype=np.float64) for values in (rating, low, high))
    if not rating.shape == low.shape == high.shape:
        raise ValueError(f"need as many intervals as ratings, not {low.shape}, {high.shape} and {rating.shape}")
    frame = pd.DataFrame({"n_ratings": 1, "inside": (low <= rating) & (rating <= high), "width": high - low})
    how = {"n_ratings": "sum", "inside": "mean", "width": "mean"}
    return frame.groupby(pd.Series(group).reset_index(drop=True), observed=True).agg(how)


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

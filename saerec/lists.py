"""Lists: for each of many users the items with the highest keys, less those that they have rated."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from saerec.ratings import RatingMatrix
from saerec.validation import IdTypeError, check_columns, kind_of_ids

USERS_AT_A_TIME = 256


def best_items(
    keys: np.ndarray, seen: sparse.csr_array, item_counts: np.ndarray, k: int | None = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns of the `k` highest keys of each row, best first, without those that `seen` stores.

    Parameters
    ----------
    keys : ndarray of shape (B, I), finite, or -inf for what is never listed
    seen : csr_array of shape (B, I)
        Whatever its values.
    item_counts : ndarray of shape (I,)
        Of equal keys the one with the higher count comes first, of these the column that stands first.
    k : int, optional
        None: all. A row with fewer unseen columns gets these.

    Returns
    -------
    row, rank, col : ndarrays of shape (N,)
        Rows in order, ranks from 1.
    """
    below = np.negative(keys, dtype=np.result_type(keys, np.float32))  # the lowest first
    below[np.repeat(np.arange(len(below)), np.diff(seen.indptr)), seen.indices] = np.inf
    place = np.empty(len(item_counts), dtype=np.int64)  # of each column among its equals
    place[np.argsort(-item_counts, kind="stable")] = np.arange(len(item_counts))
    k = below.shape[1] if k is None else min(k, below.shape[1])
    cols = torch.topk(torch.from_numpy(below), k, largest=False).indices.numpy()  # (B, k)
    last = np.take_along_axis(below, cols, axis=1).max(axis=1, keepdims=True)
    for row in np.flatnonzero(np.count_nonzero(below <= last, axis=1) > k):  # equals at the end: which belong to it?
        cols[row] = np.lexsort((place, below[row]))[:k]
    found = np.take_along_axis(below, cols, axis=1)
    order = np.lexsort((place[cols], found))
    row, place_in_list = np.nonzero(np.isfinite(np.take_along_axis(found, order, axis=1)))
    return row, place_in_list + 1, np.take_along_axis(cols, order, axis=1)[row, place_in_list]


def make_lists(ratings: RatingMatrix, keys: Callable[[np.ndarray], np.ndarray], k: int | None = 10) -> pd.DataFrame:
    """The lists of all users, who have seen what they rated.

    Parameters
    ----------
    ratings : RatingMatrix of shape (U, I)
    keys : callable
        From the rows of B users to their keys of all items, (B, I), the highest first in the lists.
    k : int, optional
        See `best_items`.

    Returns
    -------
    DataFrame
        user_id, rank (from 1) and item_id.
    """
    lists = []
    for rows in np.split(np.arange(ratings.n_users), np.arange(USERS_AT_A_TIME, ratings.n_users, USERS_AT_A_TIME)):
        row, rank, col = best_items(keys(rows), ratings.csr[rows], ratings.item_counts, k)
        found = {"user_id": ratings.user_ids[rows[row]], "rank": rank, "item_id": ratings.item_ids[col]}
        lists.append(pd.DataFrame(found))
    return pd.concat(lists, ignore_index=True)


def same_list_for_all(ratings: RatingMatrix, item_scores: np.ndarray, k: int = 10) -> pd.DataFrame:
    """The `k` items of the highest scores for everybody, less what each user has rated: what any list is to beat.

    Parameters
    ----------
    ratings : RatingMatrix of shape (U, I)
    item_scores : ndarray of shape (I,)
        Such as ``ratings.item_counts``, for the most popular. Of equals the item with more ratings comes first.

    Returns
    -------
    DataFrame
        user_id, rank (from 1) and item_id.
    """
    return make_lists(ratings, lambda rows: np.tile(item_scores, (len(rows), 1)), k)


def warn_of_short_lists(lengths: np.ndarray, name: Callable[[int], str], k: int | None) -> None:
    """Warn if lists are shorter than `k`, with the name of whom the first of them is for."""
    short = np.flatnonzero(lengths < (k or 0))
    if len(short):
        more = f", and {len(short) - 1:,} more have less than {k}" if len(short) > 1 else ""
        text = f"{name(short[0])} has only {lengths[short[0]]} unseen items{more}, so the list is shorter than k={k}"
        warnings.warn(text, stacklevel=3)


def one_of_each(movies: pd.DataFrame, item_ids: pd.Index, columns: tuple[str, ...] = ("item_id",)) -> pd.DataFrame:
    """The rows of `movies` that come first of each item, if it has these columns and ids like `item_ids`."""
    if not isinstance(movies, pd.DataFrame):
        raise TypeError(
            f"movies are a DataFrame with the column item_id, as a data set's .movies, not of {type(movies).__name__}"
        )
    check_columns(columns, movies.columns, "movies")
    movies = movies.drop_duplicates("item_id")
    kinds = kind_of_ids(movies["item_id"]), kind_of_ids(item_ids)
    if len(movies) and len(item_ids) and kinds[0] != kinds[1]:
        raise IdTypeError(f"the item_ids of movies are of type {kinds[0]}, those of the data {kinds[1]}: convert them")
    return movies


def with_titles(frame: pd.DataFrame, movies: pd.DataFrame | None) -> pd.DataFrame:
    """The lists, with the columns of `movies` of each item, by id, and the title of the item that speaks for it."""
    if movies is None:
        return frame
    movies = one_of_each(movies, pd.Index(frame["item_id"]))
    frame = frame.merge(movies, on="item_id", how="left", validate="many_to_one", suffixes=("", "_of_movie"))
    if "because_item_id" in frame and "title" in movies:
        frame["because_title"] = frame["because_item_id"].map(movies.set_index("item_id")["title"])
    return frame

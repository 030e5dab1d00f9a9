"""Lists: for each of many users the items with the highest keys, less those that they have rated."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from saerec.ratings import RatingMatrix

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

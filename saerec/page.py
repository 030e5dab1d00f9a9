"""One web page with the whole model inside: a visitor rates items, and the list changes as they do.

The page is `page.html` with a recommender in it. It computes what `Recommender` computes, in JavaScript, and asks no
network for anything, so it works from disk and offline.
"""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from saerec.baselines import SPREAD_SHRINKAGE
from saerec.choice import INPUT_LENGTH
from saerec.files import save_atomically
from saerec.intervals import COVERAGE
from saerec.lists import one_of_each
from saerec.prediction import ItemPredictor
from saerec.ratings import RatingMatrix
from saerec.recommender import Recommender
from saerec.validation import check_fitted

TEMPLATE = Path(__file__).with_name("page.html")
PLACE = "{{model}}"  # in the template
MOST_STEPS = 100  # of the control that gives stars
WHOLE = 2**11 - 1  # the largest number of 12 bits


def write_page(
    path: str | os.PathLike,
    recommender: Recommender,
    movies: pd.DataFrame | None = None,
    *,
    seen: pd.DataFrame | Iterable[pd.DataFrame] = (),
    rmse: Mapping[str, float] = {},
    source: str = "",
    thing: str = "item",
    n_users: int = 1000,
    seed: int = 0,
) -> Path:
    """Write a web page in which `recommender` runs, for visitors and for users of the data; its path.

    Weights are rounded to 12 bits, whole multiples of a step that every row of a matrix chooses, which on MovieLens
    latest-small moves no prediction by more than 0.001 stars.

    Parameters
    ----------
    path : path
        The file, HTML.
    recommender : Recommender
        Fitted.
    movies : DataFrame, optional
        With the columns item_id and title, which MovieLens ends with the year. What has no title goes by its id.
    seen : DataFrame or several
        More (user_id, item_id) pairs never to recommend, as of `Recommender.recommend`; they count in what the page
        says of how many people rated an item.
    rmse : mapping of a model's name to its error on test ratings, stars
        The page quotes "saerec" beside "regularised biases".
    source : str
        A sentence for the foot of the page: where the ratings come from.
    thing : str
        What an item is called in the sentence at the top, in the singular: "movie", "book".
    n_users : int
        How many users can be looked up; of more, so many are drawn at random, and the page says so. With 500 hidden
        units a user takes about 2 KB of the file, an item 3.
    seed : int
        Of that draw.

    Raises
    ------
    TypeError, NotFittedError
        It is no recommender, or not fitted; `movies` are no frame.
    DataError
        `movies` lack a column, or their ids are of another type than the data's.
    ValueError
        `n_users` below 0.
    """
    if not isinstance(recommender, Recommender):
        raise TypeError(f"write_page takes a path, then a recommender, not of {type(recommender).__name__}")
    check_fitted(recommender, "ratings")
    seen = [seen] if isinstance(seen, pd.DataFrame) else seen
    if n_users < 0:
        raise ValueError(f"n_users must not be negative, but is {n_users}")
    ratings, baseline = recommender.ratings, recommender.baseline
    rows = np.arange(ratings.n_users)
    if n_users < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, n_users, replace=False))
    (low, high), choice, pairs = ratings.scale, recommender.choice, _pairs(recommender, seen)
    content = {
        "about": _about(ratings, rmse, thing, len(rows)),
        "source": source,
        "scale": {"low": low, "high": high, "step": _step(ratings), "unit": ratings.unit},
        "mean": baseline.mean,
        "shrinkage": baseline.shrinkage,
        "mask_weight": recommender.mask_weight,
        "titles": _titles(recommender.item_ids, movies),
        "item_bias": _packed(baseline.item_bias),
        "counts": _packed(ratings.item_counts.astype(np.uint32)),
        "rated_by": _packed(np.bincount(pairs["col"], minlength=ratings.n_items).astype(np.uint32)),
        "users": _users(recommender, rows, pairs),
        "predictors": [
            _predictor(predictor, rows) | {"share": share}
            for predictor, share in zip(recommender.predictors, recommender.shares)
        ],
        "error": _error(recommender),
        "choice": None if choice is None else _network(choice.model),
        "choice_input": INPUT_LENGTH,
        "rank_by": recommender.rank_by,
    }
    # Escaped, nothing inside can end the script element that holds it.
    text = TEMPLATE.read_text(encoding="utf-8").replace(PLACE, json.dumps(content).replace("<", "\\u003c"), 1)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def _about(ratings: RatingMatrix, rmse: Mapping[str, float], thing: str, n_users: int) -> list[str]:
    """The sentences at the top and at the choice of a user."""
    text = (
        f"This page holds a small neural network. It learned from {ratings.n_ratings:,} ratings that "
        f"{ratings.n_users:,} people gave to {ratings.n_items:,} {thing}s, and predicts how you would rate the others. "
        "It runs on your device: what you enter stays here."
    )
    if {"saerec", "regularised biases"} <= set(rmse):
        (low, high), mine, plain = ratings.scale, rmse["saerec"], rmse["regularised biases"]
        text += (
            f" On other ratings of these people, its predictions are off by {mine:.2f} (root mean square, on a scale "
            f"from {low:g} to {high:g}); predictions from the averages of each {thing} and each person are off by "
            f"{plain:.2f}{'.' if mine < plain else ', so these are the better guess here.'}"
        )
    every = (
        f"the {n_users:,} people"
        if n_users == ratings.n_users
        else f"{n_users:,} people, drawn at random from the {ratings.n_users:,}"
    )
    return [text, f"Or look up one of {every} in the data."]


def _titles(item_ids: pd.Index, movies: pd.DataFrame | None) -> list[str]:
    titles = pd.Series(item_ids.astype(str), index=item_ids)
    if movies is not None:
        known = one_of_each(movies, item_ids, ("item_id", "title")).set_index("item_id")["title"]
        titles = known.reindex(item_ids).fillna(titles).astype(str)
    return titles.tolist()


def _step(ratings: RatingMatrix) -> float:
    """The step of the scale: the usual distance between neighbouring ratings that occur, stars."""
    low, high = ratings.scale
    usual = np.median(np.diff(np.unique(ratings.csr.data))) if high > low else 1.0
    n_steps = max(1, min(round((high - low) / usual), MOST_STEPS))
    return (high - low) / n_steps or 1.0


def _pairs(recommender: Recommender, seen: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Who rated what, as far as is known, each once: row and col, -1 for users that the recommender does not know."""
    pairs = pd.concat([recommender.seen.to_frame(), *seen])[["user_id", "item_id"]].drop_duplicates()
    row, col = recommender.ratings.positions(pairs["user_id"], pairs["item_id"])
    return pd.DataFrame({"row": row, "col": col})[col >= 0]


def _users(recommender: Recommender, rows: np.ndarray, pairs: pd.DataFrame) -> dict:
    """Of the users at `rows`: id, bias, ratings, and what is not to be recommended to them."""
    ratings, known = recommender.ratings, pairs[pairs["row"] >= 0]
    flags = np.ones(len(known), dtype=bool)
    all_seen = sparse.coo_array((flags, (known["row"], known["col"])), shape=ratings.shape).tocsr()[rows]
    rated, smallest = ratings.csr[rows], np.min_scalar_type(ratings.n_items)
    return {
        "ids": [str(user_id) for user_id in ratings.user_ids[rows]],
        "bias": _packed(recommender.baseline.user_bias[rows]),
        "starts": _packed(rated.indptr.astype(np.uint32)),
        "cols": _packed(rated.indices.astype(smallest)),
        "values": _packed(rated.data),
        "seen_starts": _packed(all_seen.indptr.astype(np.uint32)),
        "seen": _packed(all_seen.indices.astype(smallest)),
    }


def _error(recommender: Recommender) -> dict | None:
    """What the page needs of `PredictionIntervals` and the spreads that it reads; nothing if there are none."""
    intervals, baseline = recommender.intervals, recommender.baseline
    if intervals is None:
        return None
    return {
        "coverage": COVERAGE,
        "coefficients": intervals.coefficients.tolist(),
        "centres": intervals.centres.tolist(),
        "factors": intervals.factors(COVERAGE).tolist(),
        "spread": baseline.spread,
        "prior": SPREAD_SHRINKAGE,
        "item_spread": _packed(baseline.item_spread),
    }


def _predictor(predictor, rows: np.ndarray) -> dict:
    """What the page needs of an `ItemPredictor` or a `UserPredictor`; outputs in stars."""
    if not isinstance(predictor, ItemPredictor):
        return {"kind": "user", "network": _network(predictor.model, predictor.rows.unit)}
    weights = predictor.weights[rows]
    return {
        "kind": "item",
        "ridge": predictor.ridge,
        "codes": _rounded(predictor.centred_codes),
        "mean_user": _packed(predictor.mean_user),
        "weights": _rounded(weights),
        # The codes are centred: what their mean adds belongs to the user.
        "bias": _packed(predictor.bias[rows] + weights @ predictor.codes.mean(axis=0)),
    }


def _network(model, unit: float = 1.0) -> dict:
    """The layers of an `SAE`, the first weights by input, the output times `unit`."""
    state = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    weights, biases = ([state[f"{name}.{part}"] for name in names] for part in ("weight", "bias"))
    weights[0], weights[-1], biases[-1] = weights[0].T, weights[-1] * unit, biases[-1] * unit
    return {"weights": [_rounded(weight) for weight in weights], "biases": [_packed(bias) for bias in biases]}


def _rounded(matrix: np.ndarray) -> dict:
    """A matrix in 12 bits a number, two of them in three bytes: whole multiples of a step for each row."""
    step = (np.maximum(np.abs(matrix).max(axis=1), np.finfo(np.float32).tiny) / WHOLE).astype(np.float32)
    whole = (np.rint(matrix / step[:, None]).clip(-WHOLE, WHOLE) + WHOLE).astype(np.uint16).ravel()
    first, second = np.append(whole, np.zeros(len(whole) % 2, dtype=np.uint16)).reshape(-1, 2).T
    three = np.column_stack([first & 255, first >> 8 | (second & 15) << 4, second >> 4]).astype(np.uint8)
    return {"n_cols": matrix.shape[1], "step": _packed(step), "whole": _packed(three)}


def _packed(array: np.ndarray) -> dict:
    """An array as the page reads it: little-endian, in base64."""
    kind = {"u": "Uint", "i": "Int", "f": "Float"}[array.dtype.kind]
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    return {"type": f"{kind}{8 * array.dtype.itemsize}Array", "data": base64.b64encode(data).decode("ascii")}

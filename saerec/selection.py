"""What suits your data: settings chosen on validation ratings in bounded time, and errors over several folds."""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from tqdm import tqdm

from saerec import metrics
from saerec.baselines import BiasBaseline
from saerec.layouts import LAYOUTS, Layout, check_layers
from saerec.ratings import RatingMatrix, split_ratings
from saerec.recommender import DECLARED, Recommender
from saerec.settings import check_settings, checked_grid, plain
from saerec.training import DivergedError
from saerec.validation import check_ratings

# What `tune` tries of each setting, besides the default, in this order.
GRID = {
    "orientation": ("item", "both", "user"),
    "weight_decay": (1.5, 3.0, 6.0),
    "shrinkage": (2.0, 10.0),
    "hidden_dims": ((250,), (1000,)),
    "dropout": (0.3, 0.7),
    "input_dropout": (0.2, 0.5),
}
WORK_OF_A_UNIT = {"item": 1, "user": 1, "both": 4}  # on MovieLens latest-small about 3.5 to 3.8 times as much


def tune(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    *,
    grid: Mapping[str, Sequence] = GRID,
    minutes: float = 10.0,
    item_features: pd.DataFrame | None = None,
    seed: int = 0,
    progress: bool = False,
    **fixed,
) -> pd.DataFrame:
    """The settings that were tried, one row each, those with the lowest error on `valid` first.

    One setting after the other, in the order of the grid: the defaults first, then each other value, with all else as
    in the best try so far; `Recommender.fit` tries all combinations of a small grid. The order is fixed and every try
    repeats to the bit, but time does not: which tries it leaves out, and so what the later ones build on, may differ
    from run to run.

    Parameters
    ----------
    train, valid : DataFrame
        With the columns user_id, item_id and rating: as for `Recommender.fit`, without a refit.
    grid : mapping of a setting to its values
        What to try, of any settings but ridge, rank_by, refit, seed and device, on which these errors do not depend.
        Left out: `saerec.selection.GRID`. What is fixed is not tried.
    minutes : float
        No fit is begun that is expected to end later, going by what the last one took. The defaults are always tried.
    item_features : DataFrame, optional
        See `Recommender.fit`. Rows that are users do without.
    seed : int
        Of every training.
    progress : bool
        Show a progress bar on stderr.
    **fixed
        Of `Recommender`, for every try, such as ``n_epochs=20``; `rank_by` and `refit` are taken and left alone.

    Returns
    -------
    DataFrame
        order (of the tries, from 1); settings (a dict of what differs from the first try, so that
        ``saerec.Recommender(**fixed | tried["settings"][0])`` is the best); valid_rmse and valid_user_rmse, stars;
        gain, by how much valid_rmse is below that of the defaults, stars; gain_error, its standard error, the
        validation ratings being a sample; best_epoch (text: of "mean" the item layout's and the other's); and seconds.
        After these what diverged, with an infinite error; what there was no time for stands last, without. Whoever
        interrupts it, once the defaults are tried, gets what is finished, with a warning. What no recommender can have
        together is not tried, with a warning too.
    """
    if valid is None or len(valid) == 0:
        raise ValueError("what suits best is chosen on validation ratings: tune(train, valid)")
    if not minutes >= 0:
        raise ValueError(f"minutes must not be negative, but is {minutes}")
    deadline = time.perf_counter() + 60 * minutes
    fixed = {name: plain(value) for name, value in fixed.items() if name not in ("rank_by", "refit")}
    without = ("ridge", "rank_by", "refit", "seed", "device")
    grid = checked_grid(grid, DECLARED, without)
    check_settings(vars(Recommender(**fixed, seed=seed)), DECLARED)
    choices = [(name, value) for name, values in grid.items() if name not in fixed for value in values]
    tries, done, pace = [], [], 0.0  # seconds for a unit of work
    best, of_default = {}, None
    bar = tqdm([None, *choices], unit="try", disable=not progress)
    for choice in bar:
        settings = best if choice is None else best | dict([choice])
        every = fixed | settings
        if _in_effect(every, grid) in done or (tries and not _possible(every)):
            continue
        done.append(_in_effect(every, grid))
        tries.append({"order": len(done), "settings": settings, "valid_rmse": np.nan})
        start = time.perf_counter()
        if tries[1:] and start + pace * _work(every) > deadline:
            continue
        recommender = Recommender(**every, rank_by="rating", refit=False, seed=seed)
        try:
            recommender.fit(train, valid, item_features=None if recommender.orientation == "user" else item_features)
            predicted = recommender.predict(valid["user_id"], valid["item_id"])
        except DivergedError:
            if of_default is None:
                raise
            tries[-1]["valid_rmse"] = np.inf
            continue
        except KeyboardInterrupt:
            if of_default is None:
                raise
            tries.pop()
            finished = sum(row["valid_rmse"] < np.inf for row in tries)
            warnings.warn(f"interrupted: {finished} of {len(choices) + 1} possible tries are finished", stacklevel=2)
            break
        scores = metrics.scores(valid["rating"], predicted, valid["user_id"])
        squared = (valid["rating"].to_numpy(dtype=float) - predicted) ** 2
        of_default = squared if of_default is None else of_default
        gain, gain_error = _gain(squared, of_default)
        tries[-1] |= {"valid_rmse": scores["rmse"], "valid_user_rmse": scores["user_rmse"]}
        tries[-1] |= {"gain": gain, "gain_error": gain_error}
        tries[-1]["best_epoch"] = ", ".join(map(str, recommender.best_epochs.values()))
        tries[-1]["seconds"] = time.perf_counter() - start
        pace = tries[-1]["seconds"] / _work(every)
        first = min(tries, key=lambda row: np.nan_to_num(row["valid_rmse"], nan=np.inf))
        best = first["settings"]
        bar.set_postfix(best_rmse=f"{first['valid_rmse']:.4f}")
    return pd.DataFrame(tries).sort_values("valid_rmse", kind="stable", ignore_index=True)


def _possible(given: dict) -> bool:
    """Whether a recommender can have these settings together; if not, a warning says why."""
    recommender = Recommender(**given)
    try:
        check_layers(recommender.orientation, recommender.hidden_dims)
    except ValueError as error:
        warnings.warn(f"not tried: {error}", stacklevel=3)
        return False
    return True


def _in_effect(given: dict, names: Iterable[str]) -> list[dict]:
    """Those settings of each layout that is trained, to know equals by."""
    whole = vars(Recommender(**given))
    layouts = LAYOUTS[whole["orientation"]]
    names = [name for name in names if name != "blend" or len(layouts) > 1]
    return [{name: Layout(layout, whole).settings.get(name) for name in names} for layout in layouts]


def _work(given: dict) -> float:
    """How much there is to compute, in units of an item's hidden unit: to guess from one try what another will take."""
    settings = vars(Recommender(**given))
    layouts = LAYOUTS[settings["orientation"]]
    widths = [sum(Layout(layout, settings).settings["hidden_dims"]) for layout in layouts]
    return float(np.dot([WORK_OF_A_UNIT[layout] for layout in layouts], widths))


def _gain(squared: np.ndarray, of_default: np.ndarray) -> tuple[float, float]:
    """By how much the root of the mean is lower, and the standard error of that: to first order, over the pairs."""
    root, root_of_default = np.sqrt(squared.mean()), np.sqrt(of_default.mean())
    difference = (of_default / root_of_default - squared / root) / 2
    return float(root_of_default - root), float(difference.std() / np.sqrt(len(difference)))


def cross_validate(
    ratings: pd.DataFrame,
    n_folds: int = 5,
    make: Callable[[], Recommender] = Recommender,
    *,
    valid: float = 0.1,
    item_features: pd.DataFrame | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """The errors of a recommender and of the biases where each rating is held out once: fold by fold.

    Parameters
    ----------
    ratings : DataFrame
        With the columns user_id, item_id and rating.
    n_folds : int
        Random parts of equal size. Each is test once, while the others are trained on.
    make : callable
        Returns the recommender of a fold, not fitted: ``lambda: saerec.Recommender(orientation="item")``.
    valid : float in [0, 1)
        Share of the other folds' ratings to choose the epoch on; the biases learn from these too.
    item_features : DataFrame, optional
        See `Recommender.fit`.
    seed : int
        Of the folds, and of the choice of validation ratings.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    DataFrame
        fold (from 1), model ("saerec" or "regularised biases"), rmse, user_rmse and mae (stars): two rows a fold.
        ``.drop(columns="fold").groupby("model").agg(["mean", "std"])`` sums it up.

    Raises
    ------
    ValueError
        `n_folds` below 2 or above the number of ratings, and what `split_ratings` and `Recommender.fit` raise.
    TypeError
        `make` is a recommender, and not what makes one.
    """
    if not callable(make):
        raise TypeError(f"make is called for each fold, such as lambda: saerec.Recommender(seed=1); this is {make!r}")
    check_ratings(ratings)
    if not isinstance(n_folds, Integral) or not 2 <= n_folds <= len(ratings):
        raise ValueError(
            f"n_folds must be a whole number from 2 to the number of ratings, {len(ratings)}, not {n_folds}"
        )
    order = np.random.default_rng(seed).permutation(len(ratings))
    rows = []
    for fold, held_out in enumerate(tqdm(np.array_split(order, n_folds), unit="fold", disable=not progress), start=1):
        test, rest = ratings.iloc[held_out], ratings.iloc[np.setdiff1d(order, held_out)]
        train, chosen, _ = split_ratings(rest, test=0.0, valid=valid, seed=seed)
        recommender = make().fit(train, chosen, item_features=item_features)
        known = RatingMatrix.from_frame(rest)
        biases = BiasBaseline(shrinkage=recommender.shrinkage).fit(known)
        of_biases = biases.predict(*known.positions(test["user_id"], test["item_id"])).clip(*known.scale)
        scores = {
            "saerec": recommender.evaluate(test),
            "regularised biases": metrics.scores(test["rating"], of_biases, test["user_id"]),
        }
        rows += [{"fold": fold, "model": model} | errors for model, errors in scores.items()]
    return pd.DataFrame(rows)

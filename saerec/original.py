"""The original study's loop, figures and lists as they were, defects included: the yardstick, not for use.

A row is a user, all users are held densely, and 0 means unrated: it is what the network reads, and what its output is
set to, where nothing is observed. For training that is meant, see `training`.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from saerec.baselines import BiasBaseline
from saerec.checkpoints import crc_of
from saerec.files import one_writer
from saerec.metrics import rmse, user_rmse
from saerec.model import SAE
from saerec.ratings import RatingMatrix
from saerec.storage import NONSENSE, DamagedFileError, NewerFileError, fits, read_tensors, write_tensors

SECONDS_BETWEEN = 10.0  # what is written to go on from: more often it would cost more than it saves

# What the original does, why it is wrong, and what mends it. Numbered as in the ledger that the study ends with.
DEFECTS = {
    "1": ("gradients are never zeroed", "a sum of gradients is the gradient of no loss", "zero_grad=True"),
    "2": ("weight decay of 0.4", "it dwarfs the gradient of a mean over mostly unrated items", "weight_decay=0"),
    "1+2": ("both", "each makes up for the other, so neither can be judged alone", "zero_grad=True, weight_decay=0"),
    "3": ("one user a step", "a network multiplies single rows slowly", "batch_size=64"),
    "4": ("raw ratings, 0 for unrated", "unrated reads as worse than the worst", "BiasBaseline(items=False)"),
    "5": ("epoch chosen on training error", "which says nothing of new ratings", "history['valid_rmse'].idxmin()"),
    "6": ("mean of users' RMSEs, called MSE", "neither, and lower where users have few ratings", "rmse, user_rmse"),
    "7": ("unseen is what is not in test", "what was seen in training is recommended", "scores[seen] = -np.inf"),
    "8": ("title by position in movies.csv", "columns are numbered otherwise", "lists['item_id'].map(titles)"),
    "9": ("predictions as they come", "nobody can rate beyond the scale", "predicted.clip(*train.scale)"),
    "10": ("titles read as latin-1", "letters beyond ASCII of a file in UTF-8 are garbled", "load_movielens()"),
    "11": ("dense matrices", "nearly all cells are empty", "RatingMatrix"),
    "12": ("conversion user by user", "searches all ratings for each user", "RatingMatrix.from_frame(ratings)"),
    "no baseline": ("nothing to compare with", "an error alone is neither high nor low", "BiasBaseline().fit(train)"),
    "model": ("no biases, no mask, users as rows", "see notebook 02", "Recommender(orientation='item', refit=False)"),
    "features": (
        "ratings alone",
        "of an item with few ratings they say little",
        "item_features=movie_features(movies)",
    ),
    "refit": ("validation ratings only choose", "the chosen epoch can learn from them too", "refit_on(train)"),
    "second": ("one network", "two are off in different places", 'Recommender(orientation="mean")'),
    "all": ("all of the above", "", ""),
}


def original_ids(ratings: pd.DataFrame) -> dict[str, np.ndarray]:
    """The user_ids and item_ids of a frame in order of appearance, as ``pandas.factorize`` numbers them.

    For ``RatingMatrix.from_frame(part, **original_ids(ratings))``: the order of the users is the order of the steps.
    """
    return {name + "s": pd.unique(ratings[name]) for name in ("user_id", "item_id")}


def train_original(
    train: RatingMatrix,
    model: nn.Module,
    *,
    n_epochs: int = 100,
    lr: float = 0.001,
    weight_decay: float = 0.4,
    zero_grad: bool = False,
    batch_size: int = 1,
    on_epoch: Callable[[nn.Module], Mapping[str, float] | None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    measured: int | None = None,
) -> pd.DataFrame:
    """Train `model` in place as the original study did; the history, one row per epoch.

    RMSprop with the weight decay added to the gradient, a step for each user in order, and gradients that are never set
    to zero: each step follows the sum of all gradients so far. Users without ratings are skipped.

    Parameters
    ----------
    train : RatingMatrix of shape (U, I)
        Observed is what is stored, so that a matrix of deviations from some mean works too. The network cannot tell a
        deviation of 0 from an unrated cell. Held densely: 5 bytes a cell.
    model : module mapping (B, I) to (B, I)
        Its initial weights are the caller's; the original's model is ``SAE(n_items)``.
    n_epochs, lr, weight_decay
        Of the original.
    zero_grad : bool
        Whether to start each step from fresh gradients: a defect mended.
    batch_size : int, users
        Users a step. The loss is the mean over all cells of the batch, rated or not. The order stays.
    on_epoch : callable, optional
        Called after each epoch with `model`: to measure it, or to keep a copy of its weights. What it returns, if
        anything, joins the epoch's row in the history.
    checkpoint : path, optional
        A file that gets what it takes to go on: after the last epoch, and on the way every ten seconds.
    resume : bool
        Go on from that file, if it is there. The result is, but for the seconds, that of a training in one go, if
        nothing in `model` is drawn while it is trained. A damaged one is named in a warning, and training begins anew.
    measured : int, optional
        A checksum of what `on_epoch` measures by, so that a history goes on with the same.

    Returns
    -------
    DataFrame
        epoch (from 1), train_user_rmse (stars; the mean over users of the RMSE of their ratings, each measured just
        before the step that they take part in), seconds (without `on_epoch`), and what `on_epoch` returns.

    Raises
    ------
    ValueError
        A setting out of range, no ratings, or a checkpoint of other settings, data or initial weights.
    """
    _check_settings(n_epochs=n_epochs, batch_size=batch_size)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs the checkpoint to resume from")
    if checkpoint is not None:
        Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
    ratings, observed, counts = _users_with_ratings(train)  # written out once, not a row at every step
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, weight_decay=weight_decay)
    optimizer.zero_grad()  # what an earlier training left behind is not part of this one
    csr, first_weights = train.csr, (parameter.detach().numpy() for parameter in model.parameters())
    settings = {
        "n_epochs": n_epochs,
        "lr": lr,
        "weight_decay": weight_decay,
        "zero_grad": zero_grad,
        "batch_size": batch_size,
        "train": crc_of(csr.indptr, csr.indices, csr.data),
        "initial weights": crc_of(*first_weights),
        "model": str(model),
        "measured": measured,
    }
    history = []
    if resume and Path(checkpoint).exists():
        try:
            history = _restored(Path(checkpoint), settings, model, optimizer)
        except NewerFileError:
            raise
        except DamagedFileError as error:
            warnings.warn(f"{error}; training begins anew", stacklevel=2)
    written = time.perf_counter()
    for epoch in range(len(history) + 1, n_epochs + 1):
        model.train()
        start = time.perf_counter()
        user_errors = []
        for first in range(0, len(counts), batch_size):
            batch = slice(first, first + batch_size)
            if zero_grad:
                optimizer.zero_grad()
            squared_error = _squared_error(model, ratings[batch], observed[batch])  # (B, I)
            squared_error.mean().backward()  # nn.MSELoss, over all I movies
            optimizer.step()
            user_errors.append((squared_error.detach().sum(dim=1) / counts[batch]).sqrt())  # (B,)
        seconds = time.perf_counter() - start
        error = float(torch.cat(user_errors).mean())
        history.append({"epoch": epoch, "train_user_rmse": error, "seconds": seconds})
        if on_epoch is not None:
            history[-1] |= {name: float(value) for name, value in (on_epoch(model) or {}).items()}
        if checkpoint is not None and (epoch == n_epochs or time.perf_counter() - written > SECONDS_BETWEEN):
            description = {"settings": settings, "history": history}
            write_tensors(Path(checkpoint), "original", _state(model, optimizer), description)
            written = time.perf_counter()
    return pd.DataFrame(history)


def _state(model: nn.Module, optimizer: torch.optim.RMSprop) -> dict[str, torch.Tensor]:
    """All that the next step depends on: the weights, the optimizer's moments, and gradients that are never zeroed."""
    state = {}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        state |= {f"model.{name}": parameter, f"gradient.{name}": parameter.grad}
        state |= {f"square_avg.{name}": moments["square_avg"], f"step.{name}": moments["step"]}
    return state


def _restored(path: Path, settings: dict, model: nn.Module, optimizer: torch.optim.RMSprop) -> list[dict]:
    """The history so far; model and optimizer as they were left after it."""
    tensors, description = read_tensors(path, "original")
    try:
        given, history = dict(description["settings"]), [dict(row) for row in description["history"]]
    except NONSENSE as error:
        raise DamagedFileError(f"{path} is no checkpoint that saerec wrote: {error}") from error
    for name, value in settings.items():
        if given.get(name) != value:
            raise ValueError(
                f"cannot resume from {path}: its {name} is {given.get(name)!r}, here {value!r}; give the same settings "
                "and data, or start again without resuming"
            )
    expected = {}
    for name, parameter in model.named_parameters():
        expected |= {f"{kind}.{name}": parameter for kind in ("model", "gradient", "square_avg")}
        expected[f"step.{name}"] = torch.zeros(())
    names = {"epoch", "train_user_rmse", "seconds"}
    numbers = {type(value) for row in history for value in row.values()} <= {int, float}
    rows = numbers and all(row.keys() == history[0].keys() >= names for row in history)
    epochs = rows and [row["epoch"] for row in history] == [*range(1, len(history) + 1)]
    if not (history and epochs and len(history) <= settings["n_epochs"] and fits(tensors, expected)):
        raise DamagedFileError(f"{path} does not hold what a training needs to go on")
    model.load_state_dict({name: tensors[f"model.{name}"] for name, _ in model.named_parameters()})
    for name, parameter in model.named_parameters():
        parameter.grad = tensors[f"gradient.{name}"]
        optimizer.state[parameter] = {kind: tensors[f"{kind}.{name}"] for kind in ("square_avg", "step")}
    return history


def _users_with_ratings(train: RatingMatrix) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    users = np.flatnonzero(train.user_counts)
    if not len(users):
        raise ValueError("there are no ratings to train on")
    return *map(torch.from_numpy, train.dense(users)), torch.from_numpy(train.user_counts[users])


def _squared_error(model: nn.Module, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    output = torch.where(mask, model(target), 0.0)  # (B, I)
    return (output - target).square()


def decay_ratios(train: RatingMatrix, model: nn.Module, *, weight_decay: float = 0.4) -> pd.DataFrame:
    """How long the decay is beside the gradient at the weights of `model`: |weight_decay × w| / |gradient|.

    Returns
    -------
    DataFrame
        One row per user with ratings, in order: alone (beside the gradient of the user's loss) and summed (beside the
        sum of the gradients up to this user, as they add up where they are never set to zero).
    """
    weights = list(model.parameters())
    decay = weight_decay * nn.utils.parameters_to_vector(weights).detach().norm()
    ratios, total = [], 0.0
    for target, mask, _ in zip(*_users_with_ratings(train)):
        loss = _squared_error(model, target[None], mask[None]).mean()
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])
        total = total + gradient
        ratios.append({"alone": float(decay / gradient.norm()), "summed": float(decay / total.norm())})
    return pd.DataFrame(ratios)


@torch.no_grad()
def predict_original(model: nn.Module, train: RatingMatrix) -> np.ndarray:
    """The network's output for the rows of `train`: (U, I), float32, stars, not clipped."""
    model.eval()
    rows = np.array_split(np.arange(train.n_users), -(-train.n_users // 256))
    return np.concatenate([model(torch.from_numpy(train.csr[some].toarray())).numpy() for some in rows])


def test_original(model: nn.Module, train: RatingMatrix, test: RatingMatrix) -> float:
    """The original's test figure: the mean over users of the RMSE of their `test` ratings, predicted from `train`."""
    _check_ids(train, test)
    rows, cols, ratings = test.coordinates()
    return user_rmse(ratings, predict_original(model, train)[rows, cols], rows)


def top_k_original(
    model: nn.Module,
    train: RatingMatrix,
    test: RatingMatrix,
    movies: pd.DataFrame,
    *,
    rows: Iterable[int] | None = None,
    k: int = 10,
) -> pd.DataFrame:
    """The original's lists, with both of its defects: seen movies are on them, under titles of other movies.

    "Unseen" is what the user has not rated in `test`, though `train` may hold a rating. The title is that of the movie
    *at the position* of the column in `movies`, though columns are numbered in order of appearance in the ratings.

    Parameters
    ----------
    movies : DataFrame
        With title, in the order of the file.
    rows : iterable of int, optional
        The rows to make lists for; left out: all.

    Returns
    -------
    DataFrame
        user_id, rank (from 1), item_id (of the movie that is meant), score (stars, not clipped) and title (the one
        that is shown); of equal scores the lower column first.
    """
    _check_settings(k=k)
    _check_ids(train, test)
    if len(movies) < train.n_items:
        raise ValueError(f"{train.n_items:,} columns need as many titles at least, but movies has {len(movies):,}")
    rows = np.arange(train.n_users) if rows is None else np.fromiter(rows, dtype=np.int64)
    scores = predict_original(model, train)[rows]
    unseen = ~test.dense(rows)[1]
    cols = np.argsort(np.where(unseen, -scores, np.inf), axis=1, kind="stable")[:, :k]  # (B, k)
    listed = np.take_along_axis(unseen, cols, axis=1)  # fewer than k where the user has fewer
    ranks = np.broadcast_to(np.arange(1, cols.shape[1] + 1), cols.shape)
    return pd.DataFrame(
        {
            "user_id": train.user_ids[rows].repeat(listed.sum(axis=1)),
            "rank": ranks[listed],
            "item_id": train.item_ids[cols[listed]],
            "score": np.take_along_axis(scores, cols, axis=1)[listed],
            "title": movies["title"].to_numpy()[cols[listed]],
        }
    )


def train_seeds(
    train: RatingMatrix,
    held_out: Mapping[str, RatingMatrix],
    *,
    n_seeds: int,
    baseline: BiasBaseline | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    resume: bool = False,
    **settings,
) -> tuple[pd.DataFrame, list[SAE]]:
    """Train the original's model from `n_seeds` initial weights, and measure the held-out ratings after every epoch.

    Parameters
    ----------
    held_out : mapping of name to RatingMatrix
        Such as ``{"test": test}``, with the ids of `train`.
    n_seeds : int
        The seeds are 0, 1, … They draw the initial weights; nothing else is random.
    baseline : BiasBaseline, optional
        Fitted to `train`. The network learns deviations from it, which its predictions are added to.
    checkpoint_dir : path, optional
        A folder that gets a checkpoint of each seed: see `train_original`. Without `resume` those that are there go.
    resume : bool
        Go on with what is there.
    settings
        See `train_original`.

    Returns
    -------
    history : DataFrame
        One row per seed and epoch: seed, epoch, train_user_rmse, seconds (of an epoch, the mean since the first); of
        the network's output mean_output and how far it differs, user_std (over users, for a movie) and item_std (over
        movies, for a user); and for every name {name}_rmse and {name}_user_rmse, then the same with predictions
        clipped to the scale of `train`: {name}_rmse_clipped and {name}_user_rmse_clipped (all in stars).
    models : list of SAE
        After the last epoch, one for each seed.

    Raises
    ------
    ValueError
        A setting out of range, other ids than those of `train`, the name "train", or `resume` with other settings.
    BusyFolderError
        Another process trains in `checkpoint_dir`.
    """
    _check_settings(n_seeds=n_seeds)
    if "train" in held_out:
        raise ValueError('"train" is the name of the training figure: name held-out ratings otherwise')
    for part in held_out.values():
        _check_ids(train, part)
    offset, learnt = np.float32(0), train
    if baseline is not None:
        offset = baseline.predict(np.arange(train.n_users)[:, None], np.arange(train.n_items))  # (U, I)
        rows, cols, ratings = train.coordinates()
        csr = sparse.csr_array((ratings - offset[rows, cols], cols, train.csr.indptr), shape=train.shape)
        learnt = RatingMatrix(csr, train.user_ids, train.item_ids)
    histories, models = [], []

    def measure(model: nn.Module) -> dict[str, float]:
        output = predict_original(model, learnt)
        stds = {"user_std": output.std(axis=0).mean(), "item_std": output.std(axis=1).mean()}
        errors = _errors(held_out, offset + output)
        clipped = _errors(held_out, (offset + output).clip(*train.scale), "_clipped")
        return {"mean_output": output.mean()} | stds | errors | clipped

    if resume and checkpoint_dir is None:
        raise ValueError("resume=True needs the checkpoint_dir to resume from")
    options = {}
    if checkpoint_dir is not None:
        measured_by = [np.frombuffer(",".join(held_out).encode(), dtype=np.uint8), np.ascontiguousarray(offset)]
        for part in held_out.values():
            measured_by += [part.csr.indptr, part.csr.indices, part.csr.data]
        options = {"resume": resume, "measured": crc_of(*measured_by)}
    with nullcontext() if checkpoint_dir is None else one_writer(Path(checkpoint_dir), alone=True):
        for path in [] if resume or checkpoint_dir is None else Path(checkpoint_dir).glob("state_*"):
            path.unlink()  # before anything is trained: should this be interrupted, there is nothing of another
        for seed in range(n_seeds):
            if checkpoint_dir is not None:
                options["checkpoint"] = Path(checkpoint_dir, f"state_{seed}.safetensors")
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                models.append(SAE(train.n_items))
            history = train_original(learnt, models[-1], on_epoch=measure, **options, **settings)
            history["seconds"] = history["seconds"].expanding().mean()
            histories.append(history.assign(seed=seed))
    return pd.concat(histories, ignore_index=True), models


def _errors(held_out: Mapping[str, RatingMatrix], predicted: np.ndarray, suffix: str = "") -> dict[str, float]:
    errors = {}
    for name, part in held_out.items():
        rows, cols, ratings = part.coordinates()
        errors[f"{name}_rmse{suffix}"] = rmse(ratings, predicted[rows, cols])
        errors[f"{name}_user_rmse{suffix}"] = user_rmse(ratings, predicted[rows, cols], rows)
    return errors


def summarise(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each result, from a row per seed: rmse and user_rmse with their spread, and seconds.

    Parameters
    ----------
    results : mapping of name to DataFrame
        One row per seed, with rmse and user_rmse (stars) and seconds.

    Returns
    -------
    DataFrame
        Indexed by name: the means rmse, user_rmse and seconds, and rmse_spread and user_rmse_spread, the highest minus
        the lowest of the seeds.
    """
    by_name = pd.concat(results, names=["variant"]).groupby("variant", sort=False)[["rmse", "user_rmse", "seconds"]]
    spread = (by_name.max() - by_name.min()).add_suffix("_spread")
    columns = ["rmse", "rmse_spread", "user_rmse", "user_rmse_spread", "seconds"]
    return by_name.mean().join(spread)[columns]


def effect(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """In words what a change does to the mean rmse (stars): it helps, harms, or makes no difference.

    None is one no larger than the larger of the two spreads over the seeds, each the highest rmse minus the lowest.
    """
    change = after["rmse"].mean() - before["rmse"].mean()
    spread = max(np.ptp(before["rmse"]), np.ptp(after["rmse"]))
    word = "makes no difference" if abs(change) <= spread else "helps" if change < 0 else "harms"
    return f"{word} ({change:+.4f})"


def _check_settings(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def _check_ids(train: RatingMatrix, part: RatingMatrix) -> None:
    if not (train.user_ids.equals(part.user_ids) and train.item_ids.equals(part.item_ids)):
        raise ValueError("both matrices must have the same user_ids and item_ids: give both to RatingMatrix.from_frame")

"""Masked-loss training in mini-batches: `fit`, its history, checkpoints, resume, and the best epoch.

`fit` is given training and validation ratings and nothing else, so it cannot choose anything on the test ratings.
"""

import math
import os
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from saerec.baselines import BiasBaseline
from saerec.files import save_atomically
from saerec.metrics import masked_squared_error, rmse
from saerec.model import SAE, TwoEncoderSAE
from saerec.ratings import RatingMatrix

WORK_TO_SHARE = 1e8  # floating-point operations of a matrix product
N_LEFT_OUT = 20_000  # training ratings, at most about that many, on which the leave-one-out error is measured


@dataclass(frozen=True)
class Batch:
    """A few rows of a rating matrix, written out; Tensors of shape (B, I) but for the features."""

    ratings: Tensor  # float32, stars; 0 where unobserved
    observed: Tensor  # bool
    offset: Tensor  # float32, stars; what the baseline predicts
    features: Tensor  # (B, F) float32; what else the network reads of a row
    rows: np.ndarray | None = None  # (B,); positions in the matrix, None for somebody new


class RatingRows:
    """The rows of a rating matrix as the network reads them: deviations from a baseline, with the mask in sight.

    An observed cell enters the network as ``(rating - offset) / unit + mask_weight``, any other as 0. The constant
    tells the network *which* cells are rated, which says as much about a movie as how well it is liked. The network's
    output, times the unit, is added to the offset.

    The unit, `RatingMatrix.unit`, makes all scales alike: 1 for ratings from 0.5 to 5, 22 for 1 to 100. So the same
    settings serve every scale.

    Parameters
    ----------
    ratings : RatingMatrix of shape (U, I)
    baseline : BiasBaseline, optional
        Fitted to `ratings`. None: the network predicts ratings, not deviations, for every row and column.
    mask_weight : float, units
        0: the network does not see which cells are rated, except where the deviation is not 0.
    features : ndarray of shape (U, F), float32, optional
        What the network reads of each row besides its ratings.
    device : str
    """

    def __init__(
        self,
        ratings: RatingMatrix,
        baseline: BiasBaseline | None,
        *,
        mask_weight: float = 2.0,
        features: np.ndarray | None = None,
        device: str = "cpu",
    ):
        self.ratings = ratings
        self.baseline = baseline
        self.mask_weight = mask_weight
        self.features = np.zeros((ratings.n_users, 0), dtype=np.float32) if features is None else features
        self.device = device
        self.unit = ratings.unit
        self._known_cols = torch.from_numpy(ratings.item_counts > 0).to(device)

    def batch(self, rows: np.ndarray) -> Batch:
        """The rows at these positions."""
        ratings, observed = map(torch.from_numpy, self.ratings.dense(rows))
        offset = torch.zeros(1, 1)
        if self.baseline is not None:
            offset = torch.from_numpy(self.baseline.predict(rows[:, None], np.arange(self.ratings.n_items)))
        features = torch.from_numpy(self.features[rows])
        return Batch(*(tensor.to(self.device) for tensor in (ratings, observed, offset, features)), rows)

    def network_input(self, batch: Batch) -> Tensor:
        """What the network reads: (B, I + F) float32."""
        cells = torch.where(batch.observed, (batch.ratings - batch.offset) / self.unit + self.mask_weight, 0.0)
        return torch.cat([cells, batch.features], dim=1)

    def output(self, model: SAE, batch: Batch, input_dropout: float = 0.0) -> Tensor:
        """What the network writes: (B, I) float32, units. Of a cell that dropout hides rating and mask go together."""
        return model(nn.functional.dropout(self.network_input(batch), input_dropout))

    def left_out(self, model: SAE, batch: Batch, rows: Tensor, cols: Tensor) -> Tensor:
        """What the network writes in cells of the batch without reading them: (N,) float32, units."""
        return model.leave_one_out(self.network_input(batch), rows, cols)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Predicted ratings of all columns: (B, I) float32, stars, not clipped.

        Where the row or the column has no rating, what a baseline knows stands alone.
        """
        model.eval()
        return batch.offset + torch.where(self.known(batch), self.unit * self.output(model, batch), 0.0)

    def known(self, batch: Batch) -> Tensor:
        """Where the network has a say: (B, I) bool. Everywhere, if there is no baseline."""
        if self.baseline is None:
            return torch.ones_like(batch.observed)
        return batch.observed.any(dim=1, keepdim=True) & self._known_cols


class TwoSidedRatings(RatingRows):
    """The same for a `TwoEncoderSAE`, which reads the rows and the columns: a cell hidden in one is so in the other.

    Parameters
    ----------
    features : ndarray of shape (I, F), float32, optional
        Of the columns.
    ratings, baseline, mask_weight, device
        As of `RatingRows`.
    """

    def __init__(
        self, ratings: RatingMatrix, baseline: BiasBaseline | None, *, features: np.ndarray | None = None, **options
    ):
        super().__init__(ratings, baseline, **options)
        rows, cols, values = ratings.coordinates()
        offset = np.float32(0) if baseline is None else baseline.predict(rows, cols)
        self._values = torch.from_numpy((values - offset) / np.float32(self.unit) + np.float32(self.mask_weight))
        self._values = self._values.to(self.device)
        self._cells = sparse.csr_array((np.arange(len(values)), cols, ratings.csr.indptr), shape=ratings.shape)
        by_col = self._cells.T.tocsr()
        self._order, self._col_starts, self._col_rows = (
            torch.from_numpy(part.astype(np.int64)).to(self.device)
            for part in (by_col.data, by_col.indptr, by_col.indices)
        )
        features = np.zeros((ratings.n_items, 0), dtype=np.float32) if features is None else features
        self._col_features = torch.from_numpy(features).to(self.device)

    def output(self, model: TwoEncoderSAE, batch: Batch, input_dropout: float = 0.0) -> Tensor:
        """As of `RatingRows`."""
        return model(*self._inputs(batch, input_dropout))

    def left_out(self, model: TwoEncoderSAE, batch: Batch, rows: Tensor, cols: Tensor) -> Tensor:
        """As of `RatingRows`: hidden from both encoders."""
        positions = torch.from_numpy(batch.rows).to(self.device)
        return model.leave_one_out(*self._inputs(batch, 0.0), rows, cols, positions)

    def as_sae(self, model: TwoEncoderSAE) -> SAE:
        """The trained model as a user autoencoder for these ratings."""
        return model.as_sae(self._columns(self._values), self._col_features)

    def _inputs(self, batch: Batch, input_dropout: float) -> tuple[Tensor, Tensor, Tensor]:
        values = nn.functional.dropout(self._values, input_dropout)
        cells = self._cells[batch.rows].tocoo()
        users = torch.zeros(cells.shape, device=self.device)
        users[cells.row, cells.col] = values[cells.data]
        return users, self._columns(values), nn.functional.dropout(self._col_features, input_dropout)

    def _columns(self, values: Tensor) -> Tensor:
        """The columns as rows: (I, U), CSR."""
        shape = self.ratings.shape[::-1]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            return torch.sparse_csr_tensor(
                self._col_starts, self._col_rows, values[self._order], shape, check_invariants=False
            )


def fit(
    model: SAE | TwoEncoderSAE,
    train: RatingMatrix,
    valid: RatingMatrix | None = None,
    *,
    baseline: BiasBaseline | None = None,
    mask_weight: float = 2.0,
    features: np.ndarray | None = None,
    input_dropout: float = 0.3,
    n_epochs: int = 40,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 4.0,
    patience: int | None = None,
    stop_after: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    checkpoint_dir: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Train `model` in place to reconstruct the observed cells of `train`; the history, one row per epoch.

    The loss is the mean squared error over the observed cells of a mini-batch of rows, those hidden by `input_dropout`
    included, so the network learns to fill in what it does not see. AdamW (Loshchilov and Hutter, ICLR 2019) with
    weight decay on weight matrices only and a one-cycle learning rate (Smith and Topin, 2018). Afterwards `model` holds
    the weights of the best epoch by `valid`, or of the last epoch without it.

    A rating that the network reads raises what it writes in that cell, for being rated says something too; so it writes
    too little in the cells where nothing is known. How much is measured on the training ratings, each predicted from
    its row without it, and the mean of these leave-one-out errors is added to the output biases of the weights that are
    kept of an epoch. Training itself goes on without it.

    Parameters
    ----------
    model : SAE or TwoEncoderSAE
        With I outputs, and as many more inputs as there are features. Its initial weights are the caller's.
    train, valid : RatingMatrix of shape (U, I)
        With the same ids. Predictions for `valid` are made from the rows of `train`.
    baseline, mask_weight, features
        See `RatingRows`, and for the features of a TwoEncoderSAE `TwoSidedRatings`.
    input_dropout : float in [0, 1)
        Share of the input's cells hidden in training; the others are scaled up to keep the expected sum (Srivastava et
        al., JMLR 2014, section 10).
    n_epochs : int
        Epochs of the learning-rate schedule.
    batch_size : int, rows
    lr : float
        The schedule's highest learning rate.
    weight_decay : float
        Decoupled: a step shrinks the weights by ``lr * weight_decay`` of themselves.
    patience : int, optional
        Stop when `valid` has not improved for that many epochs.
    stop_after : int, optional
        Stop after this epoch without changing the schedule.
    seed : int
        Of the order of rows and of dropout. torch's global generator is left as it was.
    device : str
    checkpoint_dir : path, optional
        Gets the weights of every epoch as ``epoch_0001.safetensors`` … and ``last.pt``, from which to resume.
        Checkpoints already there are removed, unless resuming.
    resume : bool
        Go on from ``last.pt`` if it is there; the result is, to the bit, that of a run that was never interrupted.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    DataFrame
        epoch (from 1), train_rmse, valid_rmse (NaN without `valid`; both in stars, measured at the end of the epoch
        without dropout, predictions clipped to the scale of `train`) and seconds.

    Raises
    ------
    ValueError
        A setting out of range, matrices that do not match, a checkpoint of other settings or data, or training that
        diverged.
    """
    settings = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "input_dropout": input_dropout,
        "mask_weight": mask_weight,
        "seed": seed,
    }
    settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    lr, weight_decay = settings["lr"], settings["weight_decay"]  # a checkpoint holds plain numbers only, not numpy's
    _check_settings(train, valid, settings | {"patience": patience, "stop_after": stop_after})
    if resume and checkpoint_dir is None:
        raise ValueError("resume=True needs the checkpoint_dir to resume from")
    settings["model"] = str(model)
    for name, matrix in (("train", train), ("valid", valid)):
        csr = None if matrix is None else matrix.csr
        settings[name] = None if csr is None else _fingerprint(csr.indptr, csr.indices, csr.data)
    settings["baseline"] = None if baseline is None else _fingerprint(baseline.user_bias, baseline.item_bias)
    settings["features"] = None if features is None else _fingerprint(features)
    kind = TwoSidedRatings if isinstance(model, TwoEncoderSAE) else RatingRows
    data = kind(train, baseline, mask_weight=mask_weight, features=features, device=device)
    rows = np.flatnonzero(train.user_counts)
    model.to(device)
    optimizer, scheduler = optimizer_and_schedule(
        model, lr, weight_decay, total_steps=n_epochs * -(-len(rows) // batch_size)
    )
    history: list[dict] = []
    best_weights = _weights(model)
    if checkpoint_dir is not None:
        checkpoint_dir = Path(checkpoint_dir)
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
        if resume and (checkpoint_dir / LAST).exists():
            history = _load_checkpoint(checkpoint_dir, settings, model, optimizer, scheduler)
            best_file = _epoch_file(checkpoint_dir, best_epoch(pd.DataFrame(history)))
            if not best_file.exists():
                raise ValueError(f"cannot resume: {best_file}, the best epoch so far, is missing; start again")
            best_weights = load_file(best_file, device=device)
        else:
            for old in [*checkpoint_dir.glob("epoch_*.safetensors"), *checkpoint_dir.glob(LAST)]:
                old.unlink()

    last_epoch = stop_after or n_epochs
    bar = tqdm(total=last_epoch, initial=len(history), unit="epoch", disable=not progress)
    with bar, threads_for(model, batch_size):
        for epoch in range(len(history) + 1, last_epoch + 1):
            if patience and history and len(history) - best_epoch(pd.DataFrame(history)) >= patience:
                break
            start = time.perf_counter()
            with torch.random.fork_rng():
                # Seeded anew in every epoch: whoever resumes needs no generator's state to draw the same numbers.
                torch.manual_seed(epoch_seed(seed, epoch))
                _train_epoch(model, data, rows, optimizer, scheduler, batch_size, input_dropout)
            train_rmse, valid_rmse, unseen_error = _evaluate(model, data, valid, batch_size)
            if not np.isfinite(train_rmse):
                raise ValueError(
                    f"training diverged in epoch {epoch}: the error is {train_rmse}; try a lower lr than {lr}"
                )
            seconds = time.perf_counter() - start
            row = {"epoch": epoch, "train_rmse": train_rmse, "valid_rmse": valid_rmse, "seconds": seconds}
            history.append(row)
            weights = _weights(model)
            weights[model.bias_name] += unseen_error
            if best_epoch(pd.DataFrame(history)) == epoch:
                best_weights = weights
            if checkpoint_dir is not None:
                _save_checkpoint(checkpoint_dir, weights, settings, model, optimizer, scheduler, history)
            errors = {"train_rmse": train_rmse} | ({} if valid is None else {"valid_rmse": valid_rmse})
            bar.set_postfix({name: f"{error:.4f}" for name, error in errors.items()}, refresh=False)
            bar.update()
    model.load_state_dict(best_weights)
    return pd.DataFrame(history)


def best_epoch(history: pd.DataFrame) -> int:
    """The epoch with the lowest valid_rmse, the earliest of equals; the last epoch if there was no validation."""
    if history["valid_rmse"].isna().all():
        return int(history["epoch"].iloc[-1])
    return int(history.loc[history["valid_rmse"].idxmin(), "epoch"])


def _train_epoch(
    model: nn.Module,
    data: RatingRows,
    rows: np.ndarray,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    batch_size: int,
    input_dropout: float,
) -> None:
    model.train()
    order = rows[torch.randperm(len(rows)).numpy()]
    for start in range(0, len(order), batch_size):
        batch = data.batch(order[start : start + batch_size])
        prediction = batch.offset + data.unit * data.output(model, batch, input_dropout)
        squared_error, count = masked_squared_error(prediction, batch.ratings, batch.observed)
        optimizer.zero_grad()
        (squared_error / (count * data.unit**2)).backward()  # in units, so that AdamW's eps is as small on any scale
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def _evaluate(model: SAE, data: RatingRows, valid: RatingMatrix | None, batch_size: int) -> tuple[float, float, float]:
    """RMSE of the training and of the validation ratings, and the mean leave-one-out error (rating - output, units)."""
    model.eval()
    # Of each training and each validation rating what it is, what is predicted, whether the network has a say.
    found: tuple[list, list] = ([], [])
    left_out = []  # rating - output, units
    every = -(-data.ratings.n_ratings // N_LEFT_OUT)
    for start in range(0, data.ratings.n_users, batch_size):
        rows = np.arange(start, min(start + batch_size, data.ratings.n_users))
        batch = data.batch(rows)
        cells = [positions[::every] for positions in batch.observed.nonzero(as_tuple=True)]
        target = (batch.ratings - batch.offset)[cells[0], cells[1]] / data.unit
        left_out.append(target - data.left_out(model, batch, *cells))
        predicted, known = data.predict(model, batch).cpu(), data.known(batch).cpu()
        dense = [(batch.ratings.cpu(), batch.observed.cpu())]
        if valid is not None:
            dense.append(tuple(map(torch.from_numpy, valid.dense(rows))))
        for ratings, (rating, observed) in zip(found, dense):
            ratings.append(torch.stack([rating[observed], predicted[observed], known[observed]]))
    unseen_error = torch.cat(left_out).double().mean().item()
    errors = [math.nan, math.nan]  # without validation ratings, or if training diverged
    if not math.isfinite(unseen_error):
        return *errors, unseen_error
    for i, ratings in enumerate(filter(None, found)):
        rating, predicted, known = torch.cat(ratings, dim=1)
        if len(rating):
            predicted += data.unit * unseen_error * known
            errors[i] = rmse(rating, predicted.clamp(*data.ratings.scale))
    return *errors, unseen_error


@contextmanager
def threads_for(model: nn.Module, batch_size: int) -> Iterator[None]:
    """One torch thread, while the steps are too little work to share.

    There a second thread gains little; and where others use the cores too, the threads wait for each other most of the
    time. On any number of cores the bits are the same.
    """
    n_threads = torch.get_num_threads()
    operations = 2 * batch_size * max(parameter.numel() for parameter in model.parameters())  # of the largest layer
    if operations < WORK_TO_SHARE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's random numbers: one for each seed of a training and each of its epochs."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def optimizer_and_schedule(
    model: nn.Module, lr: float, weight_decay: float, total_steps: int
) -> tuple[Optimizer, LRScheduler]:
    """AdamW, whose weight decay spares the biases, and the one-cycle learning rate up to `lr`."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, total_steps))
    return optimizer, scheduler


def one_cycle(step: int, total_steps: int) -> float:
    """The learning rate of a step (from 0), as a share of the highest: up in a quarter of the steps, then down.

    Both on a cosine, from 1/25 to 1 to 1/250,000: the cycle of Smith and Topin, "Super-convergence" (2018), in the form
    of ``torch.optim.lr_scheduler.OneCycleLR``, which fails for 4 steps and stands still for one.
    """
    first, last = 1 / 25, 1 / 250_000
    peak = max(0.25 * total_steps - 1, 0)  # the step with the highest rate
    if step < peak:
        return 1 + (first - 1) / 2 * (1 + math.cos(math.pi * step / peak))
    return last + (1 - last) / 2 * (1 + math.cos(math.pi * (step - peak) / max(total_steps - 1 - peak, 1)))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy: `state_dict` is a view, which training would go on changing."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


LAST = "last.pt"


def _epoch_file(checkpoint_dir: Path, epoch: int) -> Path:
    return checkpoint_dir / f"epoch_{epoch:04d}.safetensors"


def _save_checkpoint(
    checkpoint_dir: Path,
    weights: dict[str, Tensor],
    settings: dict,
    model: SAE,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    history: list,
) -> None:
    state = {
        "settings": settings,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "history": history,
    }
    save_atomically(_epoch_file(checkpoint_dir, len(history)), lambda path: save_file(weights, path))
    save_atomically(checkpoint_dir / LAST, lambda path: torch.save(state, path))


def _load_checkpoint(
    checkpoint_dir: Path, settings: dict, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler
) -> list[dict]:
    state = torch.load(checkpoint_dir / LAST, weights_only=True)  # tensors and plain values: nothing in it can run
    for name, value in settings.items():
        saved = state["settings"].get(name)
        if saved != value:
            raise ValueError(
                f"cannot resume from {checkpoint_dir}: its {name} is {saved!r}, here {value!r}; give "
                "the same settings and data, or start again with resume=False"
            )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return state["history"]


def _fingerprint(*arrays: np.ndarray) -> int:
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return checksum


def _check_settings(train: RatingMatrix, valid: RatingMatrix | None, settings: dict) -> None:
    for name, lowest in (("n_epochs", 1), ("batch_size", 1), ("patience", 1), ("stop_after", 1), ("seed", 0)):
        value = settings[name]
        if value is not None and (not isinstance(value, Integral) or value < lowest):
            raise ValueError(f"{name} must be a whole number of at least {lowest}, not {value!r}")
    if settings["stop_after"] is not None and settings["stop_after"] > settings["n_epochs"]:
        raise ValueError(f"stop_after={settings['stop_after']} lies after the last epoch, {settings['n_epochs']}")
    if not settings["lr"] > 0 or not settings["weight_decay"] >= 0:
        raise ValueError(f"lr must be above 0, weight_decay not below: {settings['lr']}, {settings['weight_decay']}")
    if not 0 <= settings["input_dropout"] < 1:
        raise ValueError(f"input_dropout is a share, at least 0 and below 1, not {settings['input_dropout']}")
    if valid is not None and not (train.user_ids.equals(valid.user_ids) and train.item_ids.equals(valid.item_ids)):
        raise ValueError(
            "train and valid must have the same user_ids and item_ids: give both to RatingMatrix.from_frame"
        )
    if settings["patience"] is not None and valid is None:
        raise ValueError("patience needs validation ratings")

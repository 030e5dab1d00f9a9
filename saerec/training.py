"""Masked-loss training in mini-batches: `fit`, its history, checkpoints, resume, and the best epoch.

`fit` is given training and validation ratings and nothing else, so it cannot choose anything on the test ratings.
"""

import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from saerec import distributed
from saerec.baselines import BiasBaseline
from saerec.batches import CELLS_AT_ONCE, RatingRows, TwoSidedRatings, cells_of, reads_observed_cells
from saerec.checkpoints import Checkpoints, crc_of
from saerec.distributed import choose_device
from saerec.model import SAE, TwoEncoderSAE, store_by_column, store_by_row
from saerec.ratings import RatingMatrix

WORK_TO_SHARE = 1e8  # floating-point operations of a matrix product
EXPLODED = 1e6  # mean squared error of a batch, units: 200 times the length of the scale, from where none comes back
HARMFUL = 1.2  # times the training error of the baseline alone: with steps of a fitting size none is larger
DEAD = 1e-6  # units; what the network says of a column differs by less from row to row, or of a row by column
N_LOOKED_AT = 100_000  # training ratings, at most, to see whether it does
ROWS_AT_ONCE = 1024  # to measure errors by, if batches are smaller and rows not too long

LAST_BATCH = "it diverged in the last batch: try a lower lr or more weight_decay"


class DivergedError(ValueError):
    """Training has gone wrong: errors that are no numbers, or grow without end."""


def fit(
    model: SAE | TwoEncoderSAE,
    train: RatingMatrix,
    valid: RatingMatrix | None = None,
    *,
    baseline: BiasBaseline | None = None,
    mask_weight: float = 2.0,
    features: np.ndarray | None = None,
    sparse: bool | None = None,
    input_dropout: float = 0.3,
    n_epochs: int = 40,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 3.0,
    patience: int | None = None,
    stop_after: int | None = None,
    last_alone: bool = False,
    seed: int = 0,
    device: str = "cpu",
    checkpoint_dir: str | os.PathLike | None = None,
    keep: str | int = "all",
    resume: bool = False,
    progress: bool | str = False,
) -> pd.DataFrame:
    """Train `model` in place to reconstruct the observed cells of `train`; the history, one row per epoch.

    The loss is the mean squared error over the observed cells of a mini-batch of rows, those hidden by `input_dropout`
    included, so the network learns to fill in what it does not see. AdamW (Loshchilov and Hutter, ICLR 2019) with
    weight decay on weight matrices only and a one-cycle learning rate (Smith and Topin, 2018). Afterwards `model` holds
    the weights of the best epoch by `valid`, or of the last epoch without it.

    Among the processes of ``torchrun`` (`saerec.distributed.processes`) the rows of each batch are shared out, and the
    gradient is that of the whole batch. What dropout hides is drawn for all of it by each of them, so but for rounding
    the result does not depend on their number. The first process writes the checkpoints, and all go on from them, which
    may be fewer or more than before.

    Parameters
    ----------
    model : SAE or TwoEncoderSAE
        With I outputs, and as many more inputs as there are features. Its initial weights are the caller's.
    train, valid : RatingMatrix of shape (U, I)
        With the same ids. Predictions for `valid` are made from the rows of `train`.
    baseline, mask_weight, features, sparse
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
    last_alone : bool
        Measure the errors of the last epoch alone, which takes about a third less time; the history is its row. The
        weights are the same to the bit. Not with `valid`, which needs every epoch's; and of the epochs before, no
        weights are kept.
    seed : int
        Of the order of rows and of dropout. torch's global generator is left as it was.
    device : str
        Where torch computes; "auto": see `saerec.distributed.choose_device`. In 32 bits: TF32 and bfloat16 are not
        used. The weights end there. The promise of equal bits holds for the CPU.
    checkpoint_dir : path, optional
        Gets the weights of every epoch and what it takes to go on: `saerec.checkpoints.Checkpoints`. Those already
        there are removed, unless resuming. Nobody else can train there at the same time.
    keep : "all", "best" or int
        Whose epochs' weights stay in `checkpoint_dir`: all; the best so far; the last so many, and the best.
    resume : bool
        Go on from the last whole checkpoint, if there is one; the result is, to the bit, that of a run that was never
        interrupted.
    progress : bool or str
        Show a progress bar on stderr, if a text under this name. It also says whether batches are sparse, of observed
        cells alone, or dense.

    Returns
    -------
    DataFrame
        epoch (from 1), train_rmse, valid_rmse (NaN without `valid`; both in stars, measured at the end of the epoch
        without dropout, predictions clipped to the scale of `train`) and seconds.

    Raises
    ------
    ValueError
        A setting out of range, matrices that do not match, or a checkpoint of other settings or data.
    DivergedError
        An error that is no number, or beyond all reason. Checkpoints of the epochs before remain, and `model` has the
        weights of the best of these, as it has after Ctrl-C.
    BusyFolderError, NoSpaceError
        Somebody else trains in `checkpoint_dir`; the disk has no room for its files.

    Warns
    -----
    UserWarning
        A checkpoint is damaged; the network says the same of every row, or of every column; or errors on the training
        ratings are larger than without it.
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
    if last_alone and valid is not None:
        raise ValueError("last_alone=True measures no other epoch: leave out valid")
    if resume and checkpoint_dir is None:
        raise ValueError("resume=True needs the checkpoint_dir to resume from")
    settings["model"] = str(model)
    for name, matrix in (("train", train), ("valid", valid)):
        csr = None if matrix is None else matrix.csr
        settings[name] = None if csr is None else crc_of(csr.indptr, csr.indices, csr.data)
    settings["baseline"] = None if baseline is None else crc_of(baseline.user_bias, baseline.item_bias)
    settings["features"] = None if features is None else crc_of(features)
    settings["last_alone"] = last_alone
    device = choose_device(device)
    # Says how the moments are stored.
    settings["sparse"] = sparse = reads_observed_cells(train.density, sparse, device)
    kind = TwoSidedRatings if isinstance(model, TwoEncoderSAE) else RatingRows
    data = kind(train, baseline, mask_weight=mask_weight, features=features, sparse=sparse, device=device)
    rows = np.flatnonzero(train.user_counts)
    n_features = 0 if features is None else features.shape[1]
    reads = [train.n_items, train.n_users + n_features] if kind is TwoSidedRatings else [train.n_items + n_features]
    if (wide := [layer.in_features for layer in model.first_layers]) != reads:
        raise ValueError(f"the model reads {wide} numbers, not {reads}, the items (or users) and features of train")
    model.to(device)
    if data.sparse:
        store_by_column(model)
    else:
        store_by_row(model)
    optimizer, scheduler = optimizer_and_schedule(
        model, lr, weight_decay, total_steps=n_epochs * -(-len(rows) // batch_size)
    )
    checkpoints = None if checkpoint_dir is None else Checkpoints(Path(checkpoint_dir), settings, keep)
    last_epoch = stop_after or n_epochs
    troubled = False  # once is enough to say it
    begun = nullcontext((0, [], None))
    if checkpoints is not None:
        begun = checkpoints.held(last_epoch, model, optimizer, scheduler, resume=resume)
    with begun as (done, history, best):  # best: the best epoch so far, and its weights
        loss = distributed.with_summed_gradients(Loss(model, data, input_dropout))
        hidden = not progress or distributed.rank() > 0
        kind_of_batch = "sparse batches" if data.sparse else "dense batches"
        name = f"{progress}, {kind_of_batch}" if isinstance(progress, str) else kind_of_batch
        bar = tqdm(total=last_epoch, initial=done, unit="epoch", desc=name, disable=hidden)
        with bar, threads_for(model, train.n_items if kind is TwoSidedRatings else batch_size):
            for epoch in range(done + 1, last_epoch + 1):
                if patience and best and epoch - 1 - best[0] >= patience:
                    break
                with saying_what_is_kept(epoch, checkpoints, model, best):
                    start = time.perf_counter()
                    with torch.random.fork_rng():
                        # Seeded anew in every epoch: whoever resumes needs no generator's state to draw the same.
                        torch.manual_seed(epoch_seed(seed, epoch))
                        _train_epoch(loss, train.user_counts, rows, optimizer, scheduler, batch_size)
                    if not all(parameter.isfinite().all() for parameter in model.parameters()):
                        raise DivergedError(LAST_BATCH)
                    weights, errors = None, {}
                    if epoch == last_epoch or not last_alone:
                        train_rmse, valid_rmse, same_of = _evaluate(model, data, valid, batch_size)
                        trouble = ""
                        if same_of:
                            trouble = (
                                f"the network says the same of every {same_of}, so it has learnt nothing from them: "
                                "try less weight_decay, or another lr"
                            )
                        elif baseline is not None and train_rmse > HARMFUL * baseline.spread:
                            trouble = (
                                f"the error on the training ratings is {train_rmse:.3g}, and {baseline.spread:.3g} "
                                "without the network: try a lower lr, or more weight_decay"
                            )
                        if trouble and not troubled:
                            warnings.warn(f"after epoch {epoch} {trouble}", stacklevel=2)
                        troubled |= bool(trouble)
                        errors = {"train_rmse": train_rmse, "valid_rmse": valid_rmse}
                        history.append({"epoch": epoch, **errors, "seconds": time.perf_counter() - start})
                        is_best = best_epoch(pd.DataFrame(history)) == epoch
                        if is_best or checkpoints is not None:
                            weights = _weights(model)
                        if is_best:
                            best = epoch, weights
                    if checkpoints is not None:
                        checkpoints.save(epoch, model, optimizer, scheduler, history, weights, best)
                    shown = {name: f"{error:.4f}" for name, error in errors.items() if not math.isnan(error)}
                    bar.set_postfix(shown, refresh=False)
                    bar.update()
    model.load_state_dict(best[1])
    store_by_row(model)
    return pd.DataFrame(history)


@contextmanager
def saying_what_is_kept(
    epoch: int, checkpoints: Checkpoints | None, model: nn.Module, best: tuple[int, dict] | None
) -> Iterator[None]:
    """Of a training that is interrupted, diverges or cannot write, say in what epoch and what is left of it.

    The model then holds the weights of the best epoch so far, if one is finished.
    """
    try:
        yield
    except (KeyboardInterrupt, DivergedError, OSError) as error:
        kept = "nothing is kept, for there is no checkpoint_dir"
        if best is not None:
            model.load_state_dict(best[1])
            store_by_row(model)
            kept = f"the model has the weights of epoch {best[0]}"
        if checkpoints is not None:
            kept = f"the epochs before are in {checkpoints.directory}" if epoch > 1 else "no epoch is finished"
            if epoch > 1 and not isinstance(error, DivergedError):  # which the same settings would bring about again
                kept += "; to go on, fit again with resume=True"
        of_system = isinstance(error, OSError) and error.errno is not None
        why = str(error.strerror if of_system else error)
        told = f"training stopped in epoch {epoch}{why and ': '}{why}; {kept}"
        raise type(error)(*((error.errno, told, error.filename) if of_system else (told,))) from error


def best_epoch(history: pd.DataFrame) -> int:
    """The epoch with the lowest valid_rmse, the earliest of equals; the last epoch if there was no validation."""
    if history["valid_rmse"].isna().all():
        return int(history["epoch"].iloc[-1])
    return int(history.loc[history["valid_rmse"].idxmin(), "epoch"])


class Loss(nn.Module):
    """The mean squared error of some rows' observed cells; as a module, for that is what gradients are summed of."""

    def __init__(self, model: nn.Module, data: RatingRows, input_dropout: float):
        super().__init__()
        self.model, self.data, self.input_dropout = model, data, input_dropout

    def forward(self, rows: np.ndarray, places: np.ndarray) -> Tensor:
        """Of the rows that stand at some places among those at these positions, which make a batch: (), units²."""
        batch = self.data.batch(rows, places)
        self.model.row_dropout.part = batch.part and (batch.part.rows, batch.part.n_rows)
        (written,) = self.data.outputs(self.model, batch, batch.cells, input_dropout=self.input_dropout)
        return (written - batch.deviations).square().mean()  # in units: AdamW's eps is as small on any scale


def _train_epoch(
    loss_of: nn.Module,
    counts: np.ndarray,
    rows: np.ndarray,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    batch_size: int,
) -> None:
    loss_of.train()
    order = rows[torch.randperm(len(rows)).numpy()]  # the same in every process, as all that is drawn
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        own = distributed.share(np.arange(len(batch)))
        # The gradients' mean over the processes is the batch's, if each counts as its cells do. Who has no row takes
        # one for nothing, for all must come.
        weight = distributed.size() * counts[batch[own]].sum() / counts[batch].sum()
        loss = loss_of(batch, own if len(own) else np.arange(1)) * weight
        (error,) = distributed.total(loss.item() / distributed.size())
        if not error < EXPLODED:
            raise DivergedError(
                f"it diverged in batch {start // batch_size + 1}, where the mean squared error is {error:.3g} "
                f"units; try a lower lr than {optimizer.defaults['lr']:g} or more weight_decay"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def _evaluate(model: SAE, data: RatingRows, valid: RatingMatrix | None, batch_size: int) -> tuple[float, float, str]:
    """RMSE of the training and of the validation ratings; of what the network says the same, "row" or "column", if it
    does."""
    model.eval()
    ratings = data.ratings
    # More rows than in a step, for a TwoEncoderSAE reads all columns each time; yet some for each process.
    n_rows = max(batch_size, min(ROWS_AT_ONCE, CELLS_AT_ONCE // ratings.n_items))
    n_rows = min(n_rows, -(-ratings.n_users // distributed.size()))
    starts = distributed.share(np.arange(0, ratings.n_users, n_rows))
    blocks = [(start, min(start + n_rows, ratings.n_users)) for start in starts.tolist()]
    matrices = [ratings] if valid is None else [ratings, valid]
    squared_errors = [0.0] * len(matrices)
    looked_at, n_looked_at = [], 0
    for block in blocks:
        batch = data.batch(np.arange(*block))
        places = [batch.cells, *(cells_of(matrix, batch.rows)[0].to(data.device) for matrix in matrices[1:])]
        for i, (matrix, outputs) in enumerate(zip(matrices, data.outputs(model, batch, *places))):
            outputs = outputs.cpu().numpy()
            cells = matrix.coordinates(*block)
            squared_errors[i] += data.squared_error(*cells, outputs)
            if i == 0 and n_looked_at < N_LOOKED_AT:
                looked_at.append((*cells[:2], outputs))
                n_looked_at += len(outputs)
    rows, cols, outputs = map(np.concatenate, zip(*looked_at)) if looked_at else np.zeros((3, 0), dtype=int)
    same_of = "row" if _all_equal(cols, outputs) else "column" if _all_equal(rows, outputs) else ""
    squared_errors = distributed.total(*squared_errors)
    errors = [math.sqrt(e / m.n_ratings) if m.n_ratings else math.nan for e, m in zip(squared_errors, matrices)]
    if math.isnan(errors[0]):
        raise DivergedError(LAST_BATCH)
    return errors[0], errors[1] if valid is not None else math.nan, same_of


def _all_equal(groups: np.ndarray, outputs: np.ndarray) -> bool:
    """Whether all outputs of a group are the same, in all groups of several."""
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=outputs) / np.maximum(counts, 1)
    several = counts[groups] > 1
    return bool(several.any() and np.abs(outputs - means[groups])[several].max() < DEAD)


@contextmanager
def threads_for(model: nn.Module, n_rows: int) -> Iterator[None]:
    """One torch thread, while the steps, in which a layer reads `n_rows` at most, are too little work to share.

    There a second thread gains little; and where others use the cores too, the threads wait for each other most of the
    time. On any number of cores the bits are the same.
    """
    n_threads = torch.get_num_threads()
    operations = 2 * n_rows * max(parameter.numel() for parameter in model.parameters())  # of the largest layer
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
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), fused=True)
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
    contiguous = {"memory_format": torch.contiguous_format}
    return {name: tensor.detach().clone(**contiguous) for name, tensor in model.state_dict().items()}


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

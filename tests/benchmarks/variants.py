"""Networks and losses from the literature that did not pay: validation errors on MovieLens latest-small.

The first row is one half of the default, items as rows; every other has its input, settings and seeds but for what it
says, and the rows of two encoders have those of the default's other half. The test ratings are not looked at. Prints a
Markdown table; on two cores it takes about twenty minutes::

    python tests/benchmarks/variants.py
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import saerec
from saerec import training
from saerec.batches import Batch, Cells, RatingRows, TwoSidedRatings
from saerec.layouts import BOTH
from saerec.storage import read_tensors
from saerec.training import optimizer_and_schedule

PLAIN = "orientation item"
N_EPOCHS = 40
N_AVERAGED = 10  # epochs
N_DIMS, ENDS = 5, 0.2  # of the kernel, as in GLocal-K; its vectors' initial spread: about 0.6 of each weight is left
RANK = 100  # of the output weights
LR = 0.002  # of two encoders, better on these few ratings; their mean with items as rows is as good with more
SHARE = 0.25  # of the items, that a step learns from
SPREAD = 0.9  # stars; of the distribution that the biases stand for
WEIGHT_DECAY_OVER_RATINGS = 0.3  # better on validation than 1 and 2


class Data(NamedTuple):
    """Ratings with a row for every item, and what the network reads of it."""

    train: saerec.RatingMatrix  # (I, U)
    valid: saerec.RatingMatrix
    baseline: saerec.BiasBaseline
    features: np.ndarray  # (I, F)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="ROW", help="these beside the first")
    options = parser.parse_args()
    movielens = saerec.load_movielens()
    train, valid, _ = saerec.split_ratings(saerec.top_users_and_items(movielens.ratings))
    data = prepared(train, valid, saerec.movie_features(movielens.movies))
    tabulate(data, [name for name in VARIANTS if name in (options.only or VARIANTS)], options.seeds)


def tabulate(data: Data, names: list[str], n_seeds: int, n_epochs: int = N_EPOCHS) -> None:
    """Print a row for each variant, that without first; rmse in stars, with the lowest and the highest of the seeds."""
    print("| | rmse | lowest – highest | against item |\n|---|---|---|---|", flush=True)
    first = None
    for name in [PLAIN, *(name for name in names if name != PLAIN)]:
        errors = [VARIANTS[name](data, seed, n_epochs) for seed in range(n_seeds)]
        first = np.mean(errors) if first is None else first
        spread = f"{min(errors):.4f} – {max(errors):.4f}"
        print(f"| {name} | {np.mean(errors):.4f} | {spread} | {np.mean(errors) - first:+.4f} |", flush=True)


def prepared(train: pd.DataFrame, valid: pd.DataFrame, features: pd.DataFrame) -> Data:
    """As `Recommender` does it."""
    every = saerec.RatingMatrix.from_frame(pd.concat([train, valid]))
    ids = {"user_ids": every.user_ids, "item_ids": every.item_ids}
    matrix = saerec.RatingMatrix.from_frame(train, **ids)
    aligned = features.reindex(every.item_ids, fill_value=0).to_numpy(np.float32)
    baseline = saerec.BiasBaseline().fit(matrix)
    return Data(matrix.T, saerec.RatingMatrix.from_frame(valid, **ids).T, baseline.T, 20 * aligned)


def network(data: Data, seed: int) -> saerec.SAE:
    """That of items as rows."""
    torch.manual_seed(seed)
    n_users, n_features = data.train.n_items, data.features.shape[1]
    return saerec.SAE(n_users, (500,), dropout=0.5, output_gain=0.1, n_features=n_features)


def fit(model: saerec.SAE, data: Data, seed: int, n_epochs: int, **options) -> float:
    """Train; the error of the best epoch."""
    batch_size = max(64, data.train.n_users // 100)
    options |= {"baseline": data.baseline, "features": data.features, "sparse": False, "batch_size": batch_size}
    return saerec.fit(model, data.train, data.valid, n_epochs=n_epochs, seed=seed, **options)["valid_rmse"].min()


def plain(data: Data, seed: int, n_epochs: int) -> float:
    """saerec's own."""
    return fit(network(data, seed), data, seed, n_epochs)


class LocalKernel(nn.Module):
    """Weights times a kernel of finite support between vectors of their two ends.

    Han et al., "GLocal-K: global and local kernels for recommender systems", CIKM 2021, eq. 2.
    """

    def __init__(self, n_out: int, n_in: int):
        super().__init__()
        # One-dimensional, for weight decay spares what is.
        self.ends = nn.ParameterList(nn.Parameter(ENDS * torch.randn(n * N_DIMS)) for n in (n_out, n_in))

    def forward(self, weight: Tensor) -> Tensor:
        """(n_out, n_in), of the same."""
        u, v = (end.view(-1, N_DIMS) for end in self.ends)
        squared = u.square().sum(dim=1, keepdim=True) + v.square().sum(dim=1) - 2 * u @ v.T
        return weight * (1 - squared).relu()


def with_kernel(data: Data, seed: int, n_epochs: int) -> float:
    """The first layer's weights times a kernel."""
    model = network(data, seed)
    first = model.hidden[0]
    nn.utils.parametrize.register_parametrization(first, "weight", LocalKernel(*first.weight.shape))
    return fit(model, data, seed, n_epochs)


class LowRank(nn.Module):
    """Weights that are a product of two narrow matrices, instead of those given."""

    def __init__(self, n_out: int, n_in: int):
        super().__init__()
        self.left = nn.Parameter(0.1 * nn.init.xavier_uniform_(torch.empty(n_out, RANK)))
        self.right = nn.Parameter(nn.init.xavier_uniform_(torch.empty(RANK, n_in)))

    def forward(self, weight: Tensor) -> Tensor:
        """(n_out, n_in), whatever `weight`."""
        return self.left @ self.right


def of_low_rank(data: Data, seed: int, n_epochs: int) -> float:
    """The output weights of a user are a mixture of `RANK` that all share."""
    model = network(data, seed)
    nn.utils.parametrize.register_parametrization(model.output, "weight", LowRank(*model.output.weight.shape))
    return fit(model, data, seed, n_epochs)


class SomeItems(TwoSidedRatings):
    """Both encoders, but each step learns from the cells of some items alone, drawn anew: a block of them."""

    def outputs(self, model: nn.Module, batch: Batch, *places: Cells, **options) -> list[Tensor]:
        """As of `RatingRows`; in training without an error in the cells of other items."""
        outputs = super().outputs(model, batch, *places, **options)
        if not model.training:
            return outputs
        drawn = torch.rand(self.ratings.n_items) < SHARE
        return [torch.where(drawn[cells.cols], each, batch.deviations) for cells, each in zip(places, outputs)]


def both(data: Data, seed: int, n_epochs: int, kind: type[TwoSidedRatings] = TwoSidedRatings) -> float:
    """The layout with two encoders and its settings in `saerec.layouts`, but for `LR`."""
    settings = dict(BOTH) | {"lr": LR}
    (n_units,), n_items = settings.pop("hidden_dims"), data.train.n_users
    n_epochs = round(settings.pop("n_epochs") * n_epochs / N_EPOCHS)
    torch.manual_seed(seed)
    shape = {"dropout": 0.5, "output_gain": 0.1, "n_features": data.features.shape[1]}
    model = saerec.TwoEncoderSAE(data.train.n_items, n_items, n_units, **shape)
    settings |= {"batch_size": -(-data.train.n_items // 6), "sparse": False, "n_epochs": n_epochs, "seed": seed}
    options = {"baseline": data.baseline.T, "features": data.features}
    with mock.patch.object(training, "TwoSidedRatings", kind):
        return saerec.fit(model, data.train.T, data.valid.T, **options | settings)["valid_rmse"].min()


def both_by_blocks(data: Data, seed: int, n_epochs: int) -> float:
    """The same, a block of items a step, and so many more epochs that every cell is learnt from as often."""
    return both(data, seed, round(n_epochs / SHARE), SomeItems)


class Tied(nn.Module):
    """The weights of another layer, transposed, but for those of features; instead of those given."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = layer

    def forward(self, weight: Tensor) -> Tensor:
        """(n_out, n_in), whatever `weight`."""
        return self.layer.weight[:, : len(weight)].T


def tied(data: Data, seed: int, n_epochs: int) -> float:
    """What a rating adds to a unit, that unit adds to the rating."""
    model = network(data, seed)
    nn.utils.parametrize.register_parametrization(model.output, "weight", Tied(model.hidden[0]))
    return fit(model, data, seed, n_epochs)


@torch.no_grad()
def corrected(data: Data, seed: int, n_epochs: int) -> float:
    """Its output raised by the mean error of training ratings that it does not read, each predicted without itself.

    For being rated says something too: the network reads that, and writes too little where it cannot.
    """
    model = network(data, seed)
    with torch.enable_grad():
        fit(model, data, seed, n_epochs)
    model.eval()
    rows = RatingRows(data.train, data.baseline, features=data.features, sparse=False)
    errors = []
    for item in range(data.train.n_users):
        batch = rows.batch(np.array([item]))
        n = len(batch.deviations)
        read = batch.cells.dense(batch.deviations + rows.mask_weight).expand(n, -1).clone()
        every, cols = torch.arange(n), batch.cells.cols
        read[every, cols] = 0
        errors.append(batch.deviations - model.output(model.code(read, batch.features.expand(n, -1)))[every, cols])
    model.output.bias += torch.cat(errors).mean()
    return error(data, predict(model, data))


def averaged(data: Data, seed: int, n_epochs: int) -> float:
    """The weights' mean over the last epochs (Izmailov et al., UAI 2018)."""
    model = network(data, seed)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, data, seed, n_epochs, checkpoint_dir=folder)
        files = sorted(Path(folder).glob("epoch_*"))[-N_AVERAGED:]
        epochs = [read_tensors(file, "weights")[0] for file in files]
    model.load_state_dict({name: torch.stack([epoch[name] for epoch in epochs]).mean(dim=0) for name in epochs[0]})
    return error(data, predict(model, data))


def predict(model: saerec.SAE, data: Data) -> np.ndarray:
    """All cells, (I, U) stars."""
    rows = RatingRows(data.train, data.baseline, features=data.features, sparse=False)
    return rows.predict(model, rows.batch(np.arange(data.train.n_users)))


def error(data: Data, predicted: np.ndarray) -> float:
    """Of predictions of all cells, (I, U) stars."""
    rows, cols, rating = data.valid.coordinates()
    return saerec.rmse(rating, predicted[rows, cols].clip(*data.train.scale))


def over_ratings(data: Data, seed: int, n_epochs: int) -> float:
    """A probability for each rating there is, by cross-entropy; the prediction is the mean.

    The network adds to the logarithm of a normal distribution around the biases.
    """
    model = network(data, seed)
    values = np.unique(data.train.csr.data)
    n_users, n_values = data.train.n_items, len(values)
    model.output = nn.Linear(500, n_users * n_values)
    nn.init.xavier_uniform_(model.output.weight, gain=0.1)
    nn.init.zeros_(model.output.bias)
    rows = RatingRows(data.train, data.baseline, features=data.features, sparse=False)
    batch_size = max(64, data.train.n_users // 100)
    stars = torch.from_numpy(values)

    def written(items: np.ndarray, input_dropout: float) -> Tensor:  # (B, U, C)
        code, weight, bias = rows.ends(model, rows.batch(items), input_dropout)
        offset = torch.from_numpy(rows.offset(items[:, None], np.arange(n_users)))
        prior = -(offset[..., None] - stars).square() / (2 * SPREAD**2)
        return nn.functional.linear(code, weight, bias).view(len(items), n_users, n_values) + prior

    steps = n_epochs * -(-data.train.n_users // batch_size)
    optimizer, scheduler = optimizer_and_schedule(model, 1e-3, WEIGHT_DECAY_OVER_RATINGS, steps)
    errors = []
    for _ in range(n_epochs):
        model.train()
        for items in torch.randperm(data.train.n_users).split(batch_size):
            items = items.numpy()
            observed = data.train.csr[items].tocoo()
            true = torch.from_numpy(np.searchsorted(values, observed.data))
            loss = nn.functional.cross_entropy(written(items, 0.3)[observed.coords], true)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            blocks = np.array_split(np.arange(data.train.n_users), -(-data.train.n_users // 128))
            predicted = np.concatenate([(written(block, 0.0).softmax(dim=-1) @ stars).numpy() for block in blocks])
        errors.append(error(data, predicted))
    return min(errors)


VARIANTS = {
    PLAIN: plain,
    "output raised by the mean error of what it does not read": corrected,
    "a local kernel in the first layer, as in GLocal-K": with_kernel,
    f"output weights of rank {RANK}": of_low_rank,
    "output weights tied to those of the first layer": tied,
    f"two encoders, lr {LR}": both,
    f"two encoders, lr {LR}, {SHARE:.0%} of the items a step": both_by_blocks,
    f"weights averaged over the last {N_AVERAGED} epochs": averaged,
    "a probability for each of the ten ratings, cross-entropy": over_ratings,
}


if __name__ == "__main__":
    main()

"""The rows of a rating matrix as a network reads and writes them: batches, dense or sparse, less a baseline."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from saerec.baselines import BiasBaseline
from saerec.distributed import choose_device
from saerec.model import SAE, TwoEncoderSAE, drop
from saerec.ratings import RatingMatrix

SPARSE_BELOW = 0.05  # observed share of all cells
CELLS_AT_ONCE = 2**24  # that are written out to measure errors by, and of all columns of a TwoEncoderSAE


@dataclass(frozen=True)
class Cells:
    """Places in B rows of a matrix, row after row, each once: those of row b are starts[b] to starts[b + 1]."""

    starts: Tensor  # (B + 1,) int64
    cols: Tensor  # (N,) int64
    n_cols: int  # of the matrix

    @cached_property
    def rows(self) -> Tensor:
        """(N,) int64."""
        return torch.repeat_interleave(self.starts.diff())

    @cached_property
    def flat(self) -> Tensor:
        """Where they are when the rows are written out, one after the other: (N,) int64."""
        return self.rows * self.n_cols + self.cols

    def csr(self, values: Tensor) -> Tensor:
        """These values there: (B, n_cols), CSR."""
        shape = (len(self.starts) - 1, self.n_cols)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            return torch.sparse_csr_tensor(self.starts, self.cols, values, shape, check_invariants=False)

    def dense(self, values: Tensor) -> Tensor:
        """These values there and 0 elsewhere: (B, n_cols)."""
        written_out = values.new_zeros((len(self.starts) - 1) * self.n_cols)
        return written_out.scatter_(0, self.flat, values).view(-1, self.n_cols)  # a fifth of the time of an assignment

    def of(self, written_out: Tensor) -> Tensor:
        """The values there of all rows, (B, n_cols): (N,)."""
        return Picked.apply(written_out.view(-1), self.flat)

    def to(self, device: str) -> "Cells":
        """The same on a device."""
        return Cells(self.starts.to(device), self.cols.to(device), self.n_cols)


class Picked(torch.autograd.Function):
    """``values[places]``, no place twice: so gradients are written there, which is faster than adding them."""

    @staticmethod
    def forward(ctx, values: Tensor, places: Tensor) -> Tensor:
        """(N,) of (n,)."""
        ctx.n = len(values)
        ctx.save_for_backward(places)
        return values.index_select(0, places)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """(n,) of (N,)."""
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.n).scatter_(0, places, gradient), None


@dataclass(frozen=True)
class Part:
    """Which rows and cells some are among those of a larger batch, which several processes share."""

    rows: Tensor  # (B,) int64
    n_rows: int
    cells: Tensor  # (N,) int64
    n_cells: int


@dataclass(frozen=True)
class Batch:
    """A few rows of a rating matrix: what is observed, and what else the network reads."""

    cells: Cells
    deviations: Tensor  # (N,) float32, units; rating less baseline
    features: Tensor  # (B, F) float32
    rows: np.ndarray | None = None  # (B,); positions in the matrix, None for somebody new
    stored: Tensor | None = None  # (N,) int64; positions among all ratings of the matrix
    part: Part | None = None  # of what is trained on together, None if these are all rows of it


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
    sparse : bool, optional
        Whether the first layer reads, and the last writes, observed cells alone, instead of rows written out. The
        results are the same but for rounding. Left out: if fewer than `SPARSE_BELOW` of all cells are observed, and
        not on Apple's MPS, for which torch has no such operations.
    device : str
        "auto": see `saerec.distributed.choose_device`.
    """

    def __init__(
        self,
        ratings: RatingMatrix,
        baseline: BiasBaseline | None,
        *,
        mask_weight: float = 2.0,
        features: np.ndarray | None = None,
        sparse: bool | None = None,
        device: str = "cpu",
    ):
        self.ratings = ratings
        self.baseline = baseline
        self.mask_weight = mask_weight
        self.features = np.zeros((ratings.n_users, 0), dtype=np.float32) if features is None else features
        self.device = choose_device(device)
        self.sparse = reads_observed_cells(ratings.density, sparse, self.device)
        self.unit = ratings.unit

    def offset(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """What the baseline says of cells: float32, stars."""
        return np.float32(0) if self.baseline is None else self.baseline.predict(rows, cols)

    def deviations(self, rows: np.ndarray, cols: np.ndarray, values: np.ndarray) -> Tensor:
        """Ratings of cells less what the baseline says: (N,) float32, units."""
        return torch.from_numpy((values - self.offset(rows, cols)) / np.float32(self.unit)).to(self.device)

    def says(self, outputs: np.ndarray, rated: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """What the network adds to the baseline, stars: nothing, if there is one, in rows and columns without ratings.

        Parameters
        ----------
        outputs : ndarray, units
        rated : ndarray, bool
            Of each output, whether its row has a rating.
        cols : ndarray, int
            Of each, its column; all three broadcast.
        """
        stars = np.float32(self.unit) * outputs
        if self.baseline is not None:
            stars *= rated & (self.ratings.item_counts[cols] > 0)
        return stars

    def batch(self, rows: np.ndarray, places: np.ndarray | None = None) -> Batch:
        """The rows at these positions; or of these rows, which several processes share, those at some places."""
        part = None
        if places is not None and len(places) < len(rows):
            counts = self.ratings.user_counts[rows]
            cells = ranges((np.cumsum(counts) - counts)[places], counts[places])
            on_device = (torch.from_numpy(each).to(self.device) for each in (places, cells))
            part = Part(next(on_device), len(rows), next(on_device), counts.sum())
            rows = rows[places]
        cells, stored = cells_of(self.ratings, rows)
        values = self.ratings.csr.data[stored.numpy()]
        deviations = self.deviations(np.repeat(rows, self.ratings.user_counts[rows]), cells.cols.numpy(), values)
        features = torch.from_numpy(self.features[rows]).to(self.device)
        return Batch(cells.to(self.device), deviations, features, rows, stored.to(self.device), part)

    def ends(self, model: SAE, batch: Batch, input_dropout: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """What the outputs are products of: the rows' codes, (B, H), and output weights, (I, H), and bias, (I,).

        Of a cell that dropout hides rating and mask go together.
        """
        values, features = batch.deviations + self.mask_weight, batch.features
        if batch.part is None:
            values, features = (nn.functional.dropout(each, input_dropout) for each in (values, features))
        else:
            values = drop(values, input_dropout, batch.part.cells, batch.part.n_cells)
            features = drop(features, input_dropout, batch.part.rows, batch.part.n_rows)
        return model.code(self._rows(batch, values), features), model.output.weight, model.output.bias

    def outputs(self, model: nn.Module, batch: Batch, *places: Cells, input_dropout: float = 0.0) -> list[Tensor]:
        """What the network writes in some cells of the batch: for each of `places` (N,) float32, units."""
        code, weight, bias = self.ends(model, batch, input_dropout)
        if self.sparse:
            patterns = [cells.csr(torch.zeros_like(cells.cols, dtype=code.dtype)) for cells in places]
            sums = [torch.sparse.sampled_addmm(pattern, code, weight.T, beta=0.0).values() for pattern in patterns]
            return [of_cells + bias[cells.cols] for of_cells, cells in zip(sums, places)]
        written = nn.functional.linear(code, weight, bias)
        return [cells.of(written) for cells in places]

    @torch.no_grad()
    def predict(self, model: SAE, batch: Batch, offset: np.ndarray | None = None) -> np.ndarray:
        """Predicted ratings of all columns: (B, I) float32, stars, not clipped.

        Where the row or the column has no rating, what a baseline knows stands alone: `offset`, (B, I), stars, which
        need not be given but for somebody new.
        """
        model.eval()
        written = nn.functional.linear(*self.ends(model, batch)).cpu().numpy()
        cols = np.arange(self.ratings.n_items)
        if offset is None:
            offset = self.offset(batch.rows[:, None], cols)
        rated = (batch.cells.starts.diff() > 0).cpu().numpy()[:, None]
        return self.says(written, rated, cols) + offset

    def squared_error(self, rows: np.ndarray, cols: np.ndarray, values: np.ndarray, outputs: np.ndarray) -> float:
        """The sum over cells and their ratings of the squared errors of what the network wrote: stars², clipped."""
        predicted = self.offset(rows, cols) + self.says(outputs, self.ratings.user_counts[rows] > 0, cols)
        return float(np.square(predicted.clip(*self.ratings.scale).astype(np.float64) - values).sum())

    def _rows(self, batch: Batch, values: Tensor) -> Tensor:
        write = batch.cells.csr if self.sparse else batch.cells.dense
        return write(values)


class TwoSidedRatings(RatingRows):
    """The same for a `TwoEncoderSAE`, which reads the rows and the columns: a cell hidden in one is so in the other.

    Every step reads all columns, so all ratings are held in memory, twice: by row and by column.

    Parameters
    ----------
    features : ndarray of shape (I, F), float32, optional
        Of the columns.
    ratings, baseline, mask_weight, sparse, device
        As of `RatingRows`.
    """

    def __init__(
        self, ratings: RatingMatrix, baseline: BiasBaseline | None, *, features: np.ndarray | None = None, **options
    ):
        super().__init__(ratings, baseline, **options)
        self._deviations = self.deviations(*ratings.coordinates())
        stored = np.arange(ratings.n_ratings), ratings.csr.indices, ratings.csr.indptr
        by_col = csr_array(stored, shape=ratings.shape).T.tocsr()
        starts, rows, order = (
            torch.from_numpy(part.astype(np.int64)) for part in (by_col.indptr, by_col.indices, by_col.data)
        )
        self._columns, self._order = Cells(starts, rows, ratings.n_users).to(self.device), order.to(self.device)
        features = np.zeros((ratings.n_items, 0), dtype=np.float32) if features is None else features
        self._col_features = torch.from_numpy(features).to(self.device)

    def ends(self, model: TwoEncoderSAE, batch: Batch, input_dropout: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """As of `RatingRows`."""
        values = nn.functional.dropout(self._deviations + self.mask_weight, input_dropout)
        code = model.code(self._rows(batch, values[batch.stored]))
        weight = model.output_weights(self._items(values), nn.functional.dropout(self._col_features, input_dropout))
        return code, weight, model.bias.expand(len(weight))

    @torch.no_grad()
    def as_sae(self, model: TwoEncoderSAE) -> SAE:
        """The trained model as a user autoencoder for these ratings."""
        return model.as_sae(self._items(self._deviations + self.mask_weight), self._col_features)

    def _items(self, values: Tensor) -> Tensor:
        """The columns as rows: (I, U), CSR where few cells are observed or a table written out would be large."""
        large = self.ratings.n_users * self.ratings.n_items > CELLS_AT_ONCE and self.device != "mps"
        write = self._columns.csr if self.sparse or large else self._columns.dense
        return write(values[self._order])


def reads_observed_cells(density: float, sparse: bool | None, device: str) -> bool:
    """Whether a training reads and writes observed cells alone: see `RatingRows`."""
    if sparse and device == "mps":
        raise ValueError("sparse=True is not for device='mps': leave it out, or take the CPU")
    return density < SPARSE_BELOW and device != "mps" if sparse is None else sparse


def cells_of(ratings: RatingMatrix, rows: np.ndarray) -> tuple[Cells, Tensor]:
    """The observed cells of some rows, and where among all ratings each is stored, (N,) int64."""
    starts = np.concatenate([[0], np.cumsum(ratings.user_counts[rows])])
    stored = ranges(ratings.csr.indptr[rows], ratings.user_counts[rows])
    cols = ratings.csr.indices[stored].astype(np.int64, copy=False)
    return Cells(torch.from_numpy(starts), torch.from_numpy(cols), ratings.n_items), torch.from_numpy(stored)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from each start on, as many as its length, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())

"""What people choose to watch: a second, small autoencoder of *which* items a user rates, whatever the rating.

Predicted stars answer "how much would they like it if they saw it". A list also needs "would they": this is that.
"""

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from saerec import distributed
from saerec.batches import Cells, cells_of, reads_observed_cells
from saerec.checkpoints import Checkpoints, crc_of
from saerec.distributed import choose_device
from saerec.model import SAE, store_by_column, store_by_row
from saerec.ratings import RatingMatrix
from saerec.training import DivergedError, epoch_seed, optimizer_and_schedule, saying_what_is_kept, threads_for

LARGEST_STEP = 2**27  # chances, of all users of a step, if it is not larger for its 64 users: about 2 GB
INPUT_LENGTH = 3.0  # of the vector of rated items, however many there are


class ChoiceModel:
    """Predicts which item a user rates next, from those that they rated: a multinomial autoencoder.

    A row is a user, a 1 for each rated item, scaled to equal length. The output is a distribution over all items,
    fitted to the rated ones by multinomial likelihood, which makes items compete for a list's few places (Liang et al.,
    "Variational autoencoders for collaborative filtering", WWW 2018, eq. 2, here without the variational part).

    Parameters
    ----------
    hidden_dims : sequence of int
        Units of the hidden layers, tanh.
    dropout, input_dropout : float in [0, 1)
        Shares hidden in training: of the last hidden layer, of the rated items.
    n_epochs, batch_size, lr, weight_decay, seed, device
        As of `saerec.training.fit`. The defaults held their own on validation lists of MovieLens latest-small; of the
        batch size, if left out, 64 users or, where that is more and fits into 2 GB, a hundredth of them. Rows are read
        as `saerec.batches.RatingRows` reads them; what is written is always written out, for all items compete. Among
        several processes each fits the whole.

    Attributes
    ----------
    model : SAE
    ratings : RatingMatrix of shape (U, I)
        What it was fitted to.
    """

    def __init__(
        self,
        *,
        hidden_dims: tuple[int, ...] = (300,),
        dropout: float = 0.3,
        input_dropout: float = 0.5,
        n_epochs: int = 40,
        batch_size: int | None = None,
        lr: float = 2e-3,
        weight_decay: float = 0.5,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.hidden_dims = hidden_dims
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.seed = seed
        self.device = device

    def fit(
        self,
        ratings: RatingMatrix,
        *,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> "ChoiceModel":
        """Fit to which entries of `ratings` are observed; their values do not matter.

        Parameters
        ----------
        ratings : RatingMatrix of shape (U, I)
        checkpoint_dir, resume, progress
            See `saerec.training.fit`; of the epochs before the last no weights are kept.

        Raises
        ------
        DivergedError
            The likelihood is no number any more.
        ValueError, BusyFolderError, NoSpaceError
            As of `saerec.training.fit`.
        """
        if resume and checkpoint_dir is None:
            raise ValueError("resume=True needs the checkpoint_dir to resume from")
        self.ratings = ratings
        rows = np.flatnonzero(ratings.user_counts)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = self.new_model(ratings.n_items)
        with torch.no_grad():  # training starts at the items' popularity
            model.output.bias.copy_(torch.from_numpy(np.log1p(ratings.item_counts)))
        model.to(choose_device(self.device))
        if self._reads_observed_cells():
            store_by_column(model)
        batch_size = self.batch_size or max(64, min(len(rows) // 100, LARGEST_STEP // ratings.n_items))
        n_steps = self.n_epochs * -(-len(rows) // batch_size)
        optimizer, scheduler = optimizer_and_schedule(model, self.lr, self.weight_decay, n_steps)
        checkpoints, begun = None, nullcontext((0, [], None))
        if checkpoint_dir is not None:
            names = ("n_epochs", "lr", "weight_decay", "input_dropout", "seed")
            settings = {name: getattr(self, name) for name in names} | {"batch_size": batch_size, "model": str(model)}
            settings |= {"train": crc_of(ratings.csr.indptr, ratings.csr.indices), "last_alone": True}
            settings["sparse"] = self._reads_observed_cells()  # says how the moments are stored
            checkpoints = Checkpoints(Path(checkpoint_dir), settings, keep="best")
            begun = checkpoints.held(self.n_epochs, model, optimizer, scheduler, resume=resume)
        hidden = not progress or distributed.rank() > 0
        bar = tqdm(total=self.n_epochs, unit="epoch", desc="choice model", disable=hidden)
        with begun as (done, _, _), bar, threads_for(model, batch_size):
            bar.update(done)
            for epoch in range(done + 1, self.n_epochs + 1):
                with saying_what_is_kept(epoch, checkpoints, model, None):
                    with torch.random.fork_rng():
                        torch.manual_seed(epoch_seed(self.seed, epoch))
                        self._train_epoch(model, rows, batch_size, epoch, optimizer, scheduler)
                    if checkpoints is not None:
                        checkpoints.save(epoch, model, optimizer, scheduler, [], None, None)
                bar.update()
        store_by_row(model)
        self.model = model
        return self

    def _train_epoch(
        self,
        model: SAE,
        rows: np.ndarray,
        batch_size: int,
        epoch: int,
        optimizer: Optimizer,
        scheduler: LRScheduler,
    ) -> None:
        model.train()
        order = rows[torch.randperm(len(rows)).numpy()]
        for start in range(0, len(order), batch_size):
            cells = self._cells(order[start : start + batch_size])
            log_chance = torch.log_softmax(self._output(model, cells, self.input_dropout), dim=1)
            loss = -log_chance[cells.rows, cells.cols].mean()
            if not loss.isfinite():
                raise DivergedError(
                    f"the choice model diverged in batch {start // batch_size + 1}: try a lower lr than {self.lr:g}"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

    def new_model(self, n_items: int) -> SAE:
        """The network, untrained."""
        return SAE(n_items, self.hidden_dims, activation=nn.Tanh, dropout=self.dropout)

    def log_chances(self, rows: np.ndarray) -> np.ndarray:
        """The logarithm of the chance of each item to be the next these users rate: (B, I) float32.

        Among the items that they have not rated; -inf for the others.
        """
        return self._predict(self._cells(rows))

    def new_user_log_chances(self, cols: np.ndarray) -> np.ndarray:
        """The same for somebody who has rated the items at `cols`: (I,) float32."""
        starts, cols = torch.tensor([0, len(cols)]), torch.from_numpy(np.sort(cols).astype(np.int64))
        cells = Cells(starts, cols, self.ratings.n_items)
        return self._predict(cells.to(choose_device(self.device)))[0]

    @torch.no_grad()
    def _predict(self, cells: Cells) -> np.ndarray:
        self.model.eval()
        output = self._output(self.model, cells)
        output[cells.rows, cells.cols] = -torch.inf
        return torch.log_softmax(output, dim=1).cpu().numpy()

    def _cells(self, rows: np.ndarray) -> Cells:
        """What these users rated."""
        return cells_of(self.ratings, rows)[0].to(choose_device(self.device))

    def _output(self, model: SAE, cells: Cells, input_dropout: float = 0.0) -> Tensor:
        """What the network writes for users who rated these: (B, I)."""
        values = (INPUT_LENGTH / cells.starts.diff().sqrt())[cells.rows]
        write = cells.csr if self._reads_observed_cells() else cells.dense
        x = write(nn.functional.dropout(values, input_dropout))
        return model.output(model.code(x))

    def _reads_observed_cells(self) -> bool:
        return reads_observed_cells(self.ratings.density, None, choose_device(self.device))

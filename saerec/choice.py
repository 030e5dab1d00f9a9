"""What people choose to watch: a second, small autoencoder of *which* items a user rates, whatever the rating.

Predicted stars answer "how much would they like it if they saw it". A list also needs "would they": this is that.
"""

import numpy as np
import torch
from torch import Tensor, nn

from saerec.distributed import choose_device
from saerec.model import SAE
from saerec.ratings import RatingMatrix
from saerec.training import epoch_seed, optimizer_and_schedule, threads_for

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
        As of `saerec.training.fit`. The defaults held their own on validation lists of MovieLens latest-small. Among
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
        batch_size: int = 64,
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

    def fit(self, ratings: RatingMatrix) -> "ChoiceModel":
        """Fit to which entries of `ratings` are observed; their values do not matter."""
        self.ratings = ratings
        rows = np.flatnonzero(ratings.user_counts)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = self.new_model(ratings.n_items)
            with torch.no_grad():  # training starts at the items' popularity
                model.output.bias.copy_(torch.from_numpy(np.log1p(ratings.item_counts)))
            model.to(choose_device(self.device))
            n_steps = self.n_epochs * -(-len(rows) // self.batch_size)
            optimizer, scheduler = optimizer_and_schedule(model, self.lr, self.weight_decay, n_steps)
            model.train()
            with threads_for(model, self.batch_size):
                for epoch in range(1, self.n_epochs + 1):
                    torch.manual_seed(epoch_seed(self.seed, epoch))
                    order = rows[torch.randperm(len(rows)).numpy()]
                    for start in range(0, len(order), self.batch_size):
                        chosen = self._chosen(order[start : start + self.batch_size])
                        x = nn.functional.dropout(_scaled(chosen), self.input_dropout)
                        log_chance = torch.log_softmax(model(x), dim=1)  # (B, I)
                        optimizer.zero_grad()
                        (-(log_chance * chosen).sum() / chosen.sum()).backward()
                        optimizer.step()
                        scheduler.step()
        self.model = model
        return self

    def new_model(self, n_items: int) -> SAE:
        """The network, untrained."""
        return SAE(n_items, self.hidden_dims, activation=nn.Tanh, dropout=self.dropout)

    def log_chances(self, rows: np.ndarray) -> np.ndarray:
        """The logarithm of the chance of each item to be the next these users rate: (B, I) float32.

        Among the items that they have not rated; -inf for the others.
        """
        return self._predict(self._chosen(rows))

    def new_user_log_chances(self, cols: np.ndarray) -> np.ndarray:
        """The same for somebody who has rated the items at `cols`: (I,) float32."""
        chosen = torch.zeros(1, self.ratings.n_items, device=choose_device(self.device))
        chosen[0, cols] = 1
        return self._predict(chosen)[0]

    @torch.no_grad()
    def _predict(self, chosen: Tensor) -> np.ndarray:
        self.model.eval()
        output = self.model(_scaled(chosen)).masked_fill(chosen > 0, -torch.inf)
        return torch.log_softmax(output, dim=1).cpu().numpy()

    def _chosen(self, rows: np.ndarray) -> Tensor:
        """1 where rated: (B, I) float32."""
        return torch.from_numpy(self.ratings.dense(rows)[1]).to(choose_device(self.device), torch.float32)


def _scaled(chosen: Tensor) -> Tensor:
    return INPUT_LENGTH * nn.functional.normalize(chosen, dim=1)

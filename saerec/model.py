"""The autoencoders: layers only. They know torch and nothing of ratings, masks or training."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class RowDropout(nn.Dropout):
    """Dropout of rows that may be a part of a larger batch, the other rows of which are elsewhere.

    `part` says where they stand in it, and how many rows it has: (places, n). It is drawn for all n, so what is hidden
    of a row does not depend on who has the others.
    """

    part: tuple[Tensor, int] | None = None

    def _get_name(self) -> str:
        return "Dropout"  # by its print a checkpoint knows its network

    def forward(self, x: Tensor) -> Tensor:
        """As of nn.Dropout: (B, H)."""
        if self.part is None or not self.training:
            return super().forward(x)
        return drop(x, self.p, *self.part)


def drop(x: Tensor, p: float, places: Tensor, n: int) -> Tensor:
    """Dropout of what stands at `places` among n of its kind: see `RowDropout`."""
    return x * nn.functional.dropout(x.new_ones(n, *x.shape[1:]), p)[places]


class SAE(nn.Module):
    """A stacked autoencoder n-H1-…-Hm-n with a linear output: (200, 100, 200) in the original study, (500,) in AutoRec.

    Weights are Xavier uniform (Glorot and Bengio, AISTATS 2010, eq. 16), biases zero. What is observed is no business
    of the network: it reads a row and returns a row; the mask belongs to the loss.

    Parameters
    ----------
    n_items : int
        Inputs and outputs: the columns of the matrix, items if a row is a user (and users if a row is an item).
    hidden_dims : sequence of int
        Units of the hidden layers.
    activation : callable returning a module
        Placed after every hidden layer.
    dropout : float in [0, 1)
        Share of the last hidden layer that is dropped in training.
    output_gain : float
        Factor of the output layer's initial weights: below 1, training starts near zero.
    n_features : int
        Inputs after the `n_items` that are read and not reconstructed.
    """

    def __init__(
        self,
        n_items: int,
        hidden_dims: Sequence[int] = (200, 100, 200),
        activation: type[nn.Module] = nn.Sigmoid,
        dropout: float = 0.0,
        output_gain: float = 1.0,
        n_features: int = 0,
    ):
        super().__init__()
        if isinstance(hidden_dims, int):
            raise ValueError(f"hidden_dims is a sequence, such as ({hidden_dims},), not {hidden_dims}")
        dims = (n_items + n_features, *hidden_dims)
        if len(dims) < 2 or min(n_items, *dims) < 1 or n_features < 0:
            raise ValueError(
                "an SAE needs at least one input and one hidden layer of at least one unit, "
                f"not n_items={n_items}, hidden_dims={tuple(hidden_dims)}, n_features={n_features}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share, at least 0 and below 1, not {dropout}")
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(dims):
            layers += [nn.Linear(n_in, n_out), activation()]
        self.hidden = nn.Sequential(*layers, RowDropout(dropout))
        self.output = nn.Linear(dims[-1], n_items)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=output_gain if layer is self.output else 1.0)
                nn.init.zeros_(layer.bias)

    @property
    def first_layers(self) -> list[nn.Linear]:
        """What reads the rows."""
        return [self.hidden[0]]

    @property
    def row_dropout(self) -> RowDropout:
        """What hides parts of the rows' codes."""
        return self.hidden[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructed rows: (B, n_items) float32 from (B, n_items + n_features) float32."""
        code = self.hidden(x)  # (B, n_items + n_features) -> (B, H)
        return self.output(code)  # (B, H) -> (B, n_items)

    def code(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """The last hidden layer: (B, H), from rows (B, n_items), dense or CSR, and features (B, n_features), if any."""
        return self.hidden[1:](enter(self.hidden[0], x, features))


class TwoEncoderSAE(nn.Module):
    """A user autoencoder whose output weights are not learnt one by one: an encoder makes them of the items' rows.

    ``output[u, i] = h_u A h_i / sqrt(H) + bias``, where ``h_u = sigmoid(W x_u + b)`` is the code of a user's row and
    ``h_i = sigmoid(V x_i + c)`` that of an item's row (the ratings it was given, and its features). No weight belongs
    to a single user's output or a single item's, so there is less to learn by heart.

    Parameters
    ----------
    n_users, n_items : int
    hidden_dim : int
        Units of both hidden layers, H.
    dropout : float in [0, 1)
        Share of both that is dropped in training.
    output_gain : float
        Factor of the initial A: below 1, training starts near zero.
    n_features : int
        Inputs of the item encoder after the `n_users`.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        hidden_dim: int = 300,
        dropout: float = 0.0,
        output_gain: float = 1.0,
        n_features: int = 0,
    ):
        super().__init__()
        self.users = SAE(n_items, (hidden_dim,), dropout=dropout).hidden
        self.items = SAE(n_users, (hidden_dim,), dropout=dropout, n_features=n_features).hidden
        self.mixing = nn.Parameter(torch.empty(hidden_dim, hidden_dim))
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.xavier_uniform_(self.mixing, gain=output_gain)

    @property
    def first_layers(self) -> list[nn.Linear]:
        """What reads the rows, and what reads the columns."""
        return [self.users[0], self.items[0]]

    @property
    def row_dropout(self) -> RowDropout:
        """What hides parts of the rows' codes."""
        return self.users[-1]

    def forward(self, users: Tensor, items: Tensor, features: Tensor) -> Tensor:
        """The outputs (B, I), from users' rows, (B, I), all items' rows, (I, U), dense or CSR, and their features."""
        return self.code(users) @ self.output_weights(items, features).T + self.bias

    def code(self, users: Tensor) -> Tensor:
        """The users' codes: (B, H)."""
        return self.users[1:](enter(self.users[0], users))

    def output_weights(self, items: Tensor, features: Tensor) -> Tensor:
        """The codes of the items, as output weights of a user autoencoder: (I, H)."""
        code = self.items[1:](enter(self.items[0], items, features))
        return code @ self.mixing.T / len(self.mixing) ** 0.5

    @torch.no_grad()
    def as_sae(self, items: Tensor, features: Tensor) -> SAE:
        """The same for these items' rows, as an ordinary user autoencoder: what the items' codes make its weights."""
        self.eval()
        first = self.users[0]
        model = SAE(first.in_features, (first.out_features,)).to(first.weight.device)
        model.hidden[0].load_state_dict(first.state_dict())
        model.output.weight.copy_(self.output_weights(items, features))
        model.output.bias.fill_(self.bias.item())
        return model


def enter(layer: nn.Linear, x: Tensor, features: Tensor | None = None) -> Tensor:
    """What enters the units of a first layer: (B, H), from rows (B, n), dense or CSR, and features (B, F), if any.

    Of a sparse row the observed columns alone are read: as a bag of columns, each with its own vector of H weights.
    """
    weight = layer.weight[:, : x.shape[1]]
    if x.layout == torch.sparse_csr:
        bags = {"offsets": x.crow_indices(), "include_last_offset": True, "mode": "sum"}
        entering = nn.functional.embedding_bag(x.col_indices(), weight.T, per_sample_weights=x.values(), **bags)
        entering = entering + layer.bias
    else:
        entering = nn.functional.linear(x, weight, layer.bias)
    if features is None or features.shape[1] == 0:
        return entering
    return entering + features @ layer.weight[:, x.shape[1] :].T


def store_by_column(model: "SAE | TwoEncoderSAE") -> None:
    """Store the weights of the first layers column after column, as sparse rows read them; their values stay."""
    for layer in model.first_layers:
        layer.weight.data = layer.weight.data.T.contiguous().T


def store_by_row(model: "SAE | TwoEncoderSAE") -> None:
    """Store them row after row again, as everybody else expects them."""
    for layer in model.first_layers:
        layer.weight.data = layer.weight.data.contiguous()

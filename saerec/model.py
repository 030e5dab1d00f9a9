"""The stacked autoencoder: layers only. Knows torch and nothing of ratings, masks or training."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


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
    """

    def __init__(
        self,
        n_items: int,
        hidden_dims: Sequence[int] = (200, 100, 200),
        activation: type[nn.Module] = nn.Sigmoid,
        dropout: float = 0.0,
        output_gain: float = 1.0,
    ):
        super().__init__()
        if isinstance(hidden_dims, int):
            raise ValueError(f"hidden_dims is a sequence, such as ({hidden_dims},), not {hidden_dims}")
        dims = (n_items, *hidden_dims)
        if len(dims) < 2 or min(dims) < 1:
            raise ValueError(
                "an SAE needs at least one input and one hidden layer of at least one unit, "
                f"not n_items={n_items}, hidden_dims={tuple(hidden_dims)}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share, at least 0 and below 1, not {dropout}")
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(dims):
            layers += [nn.Linear(n_in, n_out), activation()]
        self.hidden = nn.Sequential(*layers, nn.Dropout(dropout))
        self.output = nn.Linear(dims[-1], n_items)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=output_gain if layer is self.output else 1.0)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructed rows: (B, n_items) float32 from (B, n_items) float32."""
        code = self.hidden(x)  # (B, n_items) -> (B, H)
        return self.output(code)  # (B, H) -> (B, n_items)

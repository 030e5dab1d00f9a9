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
        self.hidden = nn.Sequential(*layers, nn.Dropout(dropout))
        self.output = nn.Linear(dims[-1], n_items)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=output_gain if layer is self.output else 1.0)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructed rows: (B, n_items) float32 from (B, n_items + n_features) float32."""
        code = self.hidden(x)  # (B, n_items + n_features) -> (B, H)
        return self.output(code)  # (B, H) -> (B, n_items)

    def leave_one_out(self, x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """The outputs at N cells, each from its row of `x` with that cell set to 0: (N,) float32.

        A cell enters the first layer as one term of a sum, so it is taken from the sum and nothing before is repeated.
        """
        first, *later = self.hidden
        code = first(x)[rows] - first.weight.T[cols] * x[rows, cols, None]  # (N, H)
        for layer in later:
            code = layer(code)
        return (code * self.output.weight[cols]).sum(dim=1) + self.output.bias[cols]

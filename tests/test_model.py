import math

import pytest
import torch
from torch import nn

from saerec import SAE, TwoEncoderSAE
from saerec.model import RowDropout


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linear_layers(model: SAE) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(
    ("options", "dims"),
    [({}, [30, 200, 100, 200, 30]), ({"hidden_dims": (5,)}, [30, 5, 30]), ({"hidden_dims": [4, 2]}, [30, 4, 2, 30])],
)
def test_layers_have_the_sizes_asked_for(options, dims):
    model = SAE(30, **options)
    layers = linear_layers(model)
    assert [layer.in_features for layer in layers] + [layers[-1].out_features] == dims
    assert [type(layer) for layer in model.hidden] == [nn.Linear, nn.Sigmoid] * (len(dims) - 2) + [RowDropout]
    assert model(torch.zeros(3, 30)).shape == (3, 30)


@pytest.mark.parametrize("output_gain", [1.0, 0.1])
def test_weights_are_xavier_uniform_and_biases_zero(output_gain):
    model = SAE(300, output_gain=output_gain)
    for layer in linear_layers(model):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        if layer is model.output:
            bound *= output_gain
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()


def test_forward_is_the_formula():
    model = SAE(4, (3, 2))
    first, second, last = linear_layers(model)
    x = torch.randn(5, 4)
    code = torch.sigmoid(torch.sigmoid(x @ first.weight.T) @ second.weight.T)
    torch.testing.assert_close(model(x), code @ last.weight.T)  # linear at the end: not squashed to (0, 1)


def test_the_activation_can_be_chosen():
    assert isinstance(SAE(4, (3,), activation=nn.Tanh).hidden[1], nn.Tanh)


def test_dropout_hides_hidden_units_in_training_only():
    model = SAE(6, (200,), dropout=0.5)
    x = torch.randn(2, 6)
    assert 0.3 < (model.train().hidden(x) == 0).float().mean() < 0.7
    assert not (model.eval().hidden(x) == 0).any()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("n_items", "options"),
    [(0, {}), (5, {"hidden_dims": ()}), (5, {"hidden_dims": (4, 0)}), (5, {"dropout": -0.1}), (5, {"dropout": 1.1})],
)
def test_impossible_networks_are_refused(n_items, options):
    with pytest.raises(ValueError):
        SAE(n_items, **options)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_is_a_share(dropout):
    with pytest.raises(ValueError, match="dropout is a share"):
        SAE(4, (2,), dropout=dropout)


def test_one_number_of_hidden_units_is_refused():
    with pytest.raises(ValueError, match=r"hidden_dims is a sequence, such as \(500,\), not 500"):
        SAE(4, 500)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("hidden_dims", [(5,), (6, 3)])
def test_the_code_of_sparse_rows_is_that_of_dense_ones(hidden_dims, dense):
    model = SAE(4, hidden_dims, dropout=0.5, n_features=2).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 6)
    cells = x[:, :4] if dense else x[:, :4].to_sparse_csr()
    torch.testing.assert_close(model.output(model.code(cells, x[:, 4:])), model(x))


def test_features_are_read_and_not_written():
    model = SAE(4, (3,), n_features=2)
    x = torch.randn(5, 6)
    assert model(x).shape == (5, 4)
    other = x.clone()
    other[:, 4:] += 1
    assert not torch.equal(model(x), model(other))


class TestTwoEncoders:
    """6 users, 4 items, 2 features of an item."""

    @pytest.fixture
    def model(self) -> TwoEncoderSAE:
        model = TwoEncoderSAE(6, 4, 3, dropout=0.5, n_features=2).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        return model

    x, features = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([[1.0, 2]] * 4)

    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
    def test_forward_is_the_formula(self, model):
        users, items = model.users[0], model.items[0]
        h_u = torch.sigmoid(self.x @ users.weight.T + users.bias)
        h_i = torch.sigmoid(torch.cat([self.x.T, self.features], dim=1) @ items.weight.T + items.bias)
        expected = h_u @ model.mixing @ h_i.T / math.sqrt(3) + model.bias
        torch.testing.assert_close(model(self.x, self.x.T, self.features), expected)
        torch.testing.assert_close(model(self.x[2:4], self.x.T.to_sparse_csr(), self.features), expected[2:4])

    def test_as_a_user_autoencoder_it_says_the_same(self, model):
        sae = model.train().as_sae(self.x.T, self.features)
        torch.testing.assert_close(sae(self.x), model.eval()(self.x, self.x.T, self.features))

    def test_weights_start_as_those_of_the_other(self):
        model = TwoEncoderSAE(300, 200, 100, output_gain=0.1)
        for weight, gain in ((model.users[0].weight, 1), (model.items[0].weight, 1), (model.mixing, 0.1)):
            bound = gain * math.sqrt(6 / sum(weight.shape))
            assert 0.98 * bound < weight.abs().max() <= bound
        assert not model.bias.any() and not model.users[0].bias.any()

"""The network and its configuration."""

import json

import pytest
import torch
from torch import nn

from models import MLP, DropConnectLinear, Dropout, MLPConfig
from models.mlp import ACTIVATIONS


def test_a_config_survives_json() -> None:
    config = MLPConfig(8, 3, (16, 8), "gelu", "gaussian", (0.1, 0.2), 0.05, "classification")
    assert MLPConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_one_p_stands_for_all_layers() -> None:
    assert MLPConfig(4, hidden=(3, 3, 3), p=0.2).p == (0.2, 0.2, 0.2)
    assert MLPConfig(4, hidden=(), p=0.2).p == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"in_features": 0}, "at least one unit"),
        ({"hidden": (4, 0)}, "at least one unit"),
        ({"p": (0.1,)}, "1 values of p for 2 hidden layers"),
        ({"p": 1.5}, "between 0 and 1, but got 1.5"),
        ({"input_p": -0.1}, "between 0 and 1, but got -0.1"),
        ({"activation": "step"}, "activation has to be one of relu"),
        ({"dropout": "alpha"}, "dropout has to be one of bernoulli"),
        ({"head": "ranking"}, "head has to be one of regression"),
    ],
)
def test_an_impossible_config_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPConfig(**{"in_features": 4} | wrong)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_eval_mode_is_the_plain_network(activation: str) -> None:
    """The same weights in torch's own modules, without any dropout."""
    net = MLP(MLPConfig(5, 3, (7, 6), activation, p=0.5, input_p=0.5, head="classification"))
    act = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}[activation]
    a, b, c = net.linears
    plain = nn.Sequential(a, act(), b, act(), c)
    x = torch.randn(20, 5)
    torch.testing.assert_close(net.eval()(x), plain(x))
    assert torch.equal(net(x), net(x))


def test_train_mode_drops_after_each_activation_and_on_the_input() -> None:
    net = MLP(MLPConfig(5, 1, (7, 6), p=(0.2, 0.3), input_p=0.1))
    assert [d.p for d in net.dropouts] == [0.1, 0.2, 0.3]
    assert all(isinstance(d, Dropout) for d in net.dropouts)
    x = torch.randn(20, 5)
    torch.manual_seed(0)
    out = net.train()(x)
    torch.manual_seed(0)
    h = net.dropouts[0](x)
    for linear, dropout in zip(net.linears[:-1], net.dropouts[1:], strict=True):
        h = dropout(torch.relu(linear(h)))
    assert torch.equal(out, net.linears[-1](h)[:, :1])


def test_dropconnect_drops_the_weights_that_read_each_layer() -> None:
    net = MLP(MLPConfig(5, 1, (7, 6), dropout="dropconnect", p=(0.2, 0.3), input_p=0.0))
    assert all(isinstance(linear, DropConnectLinear) for linear in net.linears)
    assert net.probabilities == (0.0, 0.2, 0.3)


def test_regression_keeps_the_noise_variance_out_of_its_output() -> None:
    net = MLP(MLPConfig(5, 1, (7,))).eval()
    x = torch.randn(9, 5)
    assert net(x).shape == (9, 1)
    assert net.raw(x).shape == (9, 2)
    assert torch.equal(net.raw(x)[:, :1], net(x))


def test_every_activation_can_be_asked_for() -> None:
    assert set(ACTIVATIONS) == {"relu", "gelu", "silu", "tanh", "identity"}

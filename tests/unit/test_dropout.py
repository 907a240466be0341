"""What each layer does in train and eval mode; the oracle for gradients is torch.nn.Dropout."""

import math

import pytest
import torch
from torch import nn

import models
from models import ConcreteDropout, DropConnectLinear, Dropout, GaussianDropout

UNIT_LAYERS = (Dropout, GaussianDropout, ConcreteDropout)


def test_the_public_names_are_listed_before_they_are_loaded() -> None:
    assert set(models.__all__) <= set(dir(models))
    assert all(getattr(models, name).__name__ == name for name in models.__all__)


def test_repr() -> None:
    assert repr(Dropout(p=0.5)) == "Dropout(p=0.5)"
    assert repr(Dropout()) == "Dropout(p=0.5)"
    assert repr(Dropout(0.25, inplace=True)) == "Dropout(p=0.25, inplace=True)"
    assert repr(GaussianDropout(0.1)) == "GaussianDropout(p=0.1)"
    assert "in_features=3, out_features=2, bias=True, p=0.2" in repr(DropConnectLinear(3, 2, 0.2))


@pytest.mark.parametrize("p", [1.5, -0.1, math.nan, math.inf])
@pytest.mark.parametrize(
    "make", [*UNIT_LAYERS, lambda p: DropConnectLinear(2, 2, p)], ids=lambda m: m.__name__
)
def test_p_outside_0_to_1_is_refused(make, p: float) -> None:
    with pytest.raises(ValueError, match="has to be between 0 and 1, but got"):
        make(p)


def test_the_message_is_torchs() -> None:
    with pytest.raises(
        ValueError, match=r"^dropout probability has to be between 0 and 1, but got 1\.5$"
    ):
        Dropout(1.5)


@pytest.mark.parametrize("layer", [make(0.5) for make in UNIT_LAYERS], ids=repr)
def test_eval_mode_is_the_identity(layer: nn.Module) -> None:
    x = torch.randn(50, 7)
    assert layer.eval()(x) is x
    assert not torch.equal(layer.train()(x), x)


def test_dropconnect_in_eval_mode_is_linear() -> None:
    layer = DropConnectLinear(7, 3, 0.5)
    x = torch.randn(50, 7)
    assert torch.equal(layer.eval()(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert not torch.equal(layer.train()(x), layer.eval()(x))


def test_p_0_is_the_identity_and_draws_nothing() -> None:
    x = torch.randn(50, 7)
    state = torch.get_rng_state()
    for make in UNIT_LAYERS:
        assert torch.equal(make(0.0).train()(x), x)
    layer = DropConnectLinear(7, 3, 0.0)
    before = torch.get_rng_state()
    assert torch.equal(layer.train()(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)


@pytest.mark.parametrize("layer", [make(1.0) for make in UNIT_LAYERS], ids=repr)
def test_p_1_gives_zeros(layer: nn.Module) -> None:
    x = torch.tensor([1.0, -2.0, math.inf, math.nan], requires_grad=True)
    out = layer.train()(x)
    assert torch.equal(out, torch.zeros(4))
    if out.requires_grad:
        out.sum().backward()
        assert torch.equal(x.grad, torch.zeros(4))


def test_dropconnect_with_p_1_leaves_the_bias() -> None:
    layer = DropConnectLinear(4, 3, 1.0).train()
    assert torch.equal(layer(torch.randn(5, 4)), layer.bias.expand(5, 3))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_dropconnect_with_p_1_hides_what_is_not_finite(value: float) -> None:
    layer = DropConnectLinear(4, 3, 1.0).train()
    x = torch.full((5, 4), value, requires_grad=True)
    out = layer(x)
    assert torch.equal(out, layer.bias.expand(5, 3))
    out.sum().backward()
    assert torch.equal(x.grad, torch.zeros(5, 4))
    assert torch.equal(layer.weight.grad, torch.zeros(3, 4))


def test_dropconnect_below_p_1_keeps_what_is_not_finite_to_its_row() -> None:
    layer = DropConnectLinear(4, 3, 0.9).train()
    x = torch.randn(5, 4)
    x[2, 1] = math.inf
    assert layer(x).isfinite().all(dim=1).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_dropped_unit_hides_what_is_not_finite(value: float, *, inplace: bool) -> None:
    torch.manual_seed(0)
    out = Dropout(0.5, inplace=inplace).train()(torch.full((1000,), value))
    dropped = out == 0.0
    assert 400 < dropped.sum() < 600
    assert not torch.isfinite(out[~dropped]).any()


def test_a_dropped_unit_stops_the_gradient_also_of_infinity() -> None:
    torch.manual_seed(0)
    x = torch.full((1000,), math.inf, requires_grad=True)
    out = Dropout(0.5).train()(x)
    out.sum().backward()
    assert torch.equal(x.grad == 0.0, out == 0.0)
    assert torch.equal(x.grad[x.grad != 0.0].unique(), torch.tensor([2.0]))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("inplace", [False, True])
def test_output_and_gradient_match_torch_dropout_from_the_same_seed(
    p: float, dtype: torch.dtype, *, inplace: bool
) -> None:
    weights = torch.randn(40, 30, dtype=dtype)
    results = []
    for layer in (Dropout(p, inplace=inplace), nn.Dropout(p, inplace=inplace)):
        x = torch.linspace(-2, 2, 1200, dtype=dtype).reshape(40, 30).requires_grad_()
        torch.manual_seed(7)
        out = layer(x * 1.0)
        (out * weights).sum().backward()
        results.append((out.detach(), x.grad))
    (ours, our_grad), (theirs, their_grad) = results
    tolerance = 0.01 if dtype is torch.bfloat16 else 1e-6
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0.0)
    torch.testing.assert_close(our_grad, their_grad, rtol=tolerance, atol=0.0)
    assert ours.dtype is dtype


def test_inplace_works_on_its_input() -> None:
    x = torch.ones(100)
    assert Dropout(0.5, inplace=True).train()(x) is x
    assert set(x.tolist()) == {0.0, 2.0}


def test_inplace_on_a_leaf_is_refused_as_torch_refuses_it() -> None:
    for layer in (Dropout(0.5, inplace=True), nn.Dropout(0.5, inplace=True)):
        with pytest.raises(RuntimeError, match="leaf Variable"):
            layer.train()(torch.ones(3, requires_grad=True))


def test_inplace_before_a_backward_that_needs_the_input_is_refused() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    Dropout(0.5, inplace=True).train()(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_bfloat16_keeps_the_probability() -> None:
    """A mask drawn in bfloat16 itself could only hit multiples of 1/256."""
    torch.manual_seed(0)
    zeros = (Dropout(0.001).train()(torch.ones(2_000_000, dtype=torch.bfloat16)) == 0).sum()
    assert abs(zeros - 2000) < 4.27 * 2000**0.5


def test_dropconnect_gradient_reaches_only_the_weights_that_were_kept() -> None:
    torch.manual_seed(0)
    layer = DropConnectLinear(20, 10, 0.5, bias=False).train()
    torch.manual_seed(1)
    layer(torch.eye(20)).sum().backward()
    torch.manual_seed(1)
    kept = layer(torch.eye(20)).t() != 0.0
    assert torch.equal(layer.weight.grad != 0.0, kept)
    assert torch.equal(layer.weight.grad[kept].unique(), torch.tensor([2.0]))


def test_dropconnect_thins_one_network_for_all_rows() -> None:
    layer = DropConnectLinear(6, 4, 0.5).train()
    row = torch.randn(1, 6)
    out = layer(row.expand(5, 6))
    assert torch.equal(out, out[:1].expand(5, 4))


def test_concrete_dropout_learns_p_by_gradient() -> None:
    """The gradient of the mean output with respect to p's logit, by finite differences."""
    layer = ConcreteDropout(0.3, temperature=0.5).double().train()
    x = torch.linspace(0.5, 2.0, 1000, dtype=torch.float64)

    def mean_square() -> torch.Tensor:
        torch.manual_seed(3)
        return layer(x).square().mean()

    mean_square().backward()
    gradient, step = layer.p_logit.grad.item(), 1e-4
    with torch.no_grad():
        layer.p_logit += step
        above = mean_square().item()
        layer.p_logit -= 2 * step
        below = mean_square().item()
    assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-4)
    assert gradient != 0.0


def test_concrete_regulariser_is_the_papers() -> None:
    layer = ConcreteDropout(0.2)
    weight = torch.randn(5, 8)
    expected = 0.01 * weight.square().sum() / 0.8 + 0.3 * 8 * (
        0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    )
    value = layer.regulariser(weight, weight_strength=0.01, dropout_strength=0.3)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("log_odds", [-1e4, -200.0, -90.0, -17.0, 17.0, 90.0, 200.0, 1e4])
def test_concrete_dropout_is_finite_however_far_its_log_odds_went(log_odds: float) -> None:
    layer = ConcreteDropout(0.2).train()
    with torch.no_grad():
        layer.p_logit.fill_(log_odds)
    weight = torch.randn(5, 8, requires_grad=True)
    out = layer(torch.randn(1000, 8))
    loss = out.square().sum() + layer.regulariser(weight, 1e-6, 1e-2)
    loss.backward()
    for value in (out, loss, layer.p_logit.grad, weight.grad):
        assert value.isfinite().all()
    assert 0.0 < torch.tensor(layer.p, dtype=torch.float32) < 1.0
    assert (layer.p > 0.5) == (log_odds > 0.0)


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_concrete_p_starts_where_it_is_told(p: float) -> None:
    assert ConcreteDropout(p).p == pytest.approx(p, abs=1e-7)

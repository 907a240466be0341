"""The fast path against a plain loop over masked networks, and its promises about bits."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import MLP, MLPConfig, sampling
from models.masks import MaskStream
from models.mlp import ACTIVATIONS, LOG_VARIANCE_RANGE
from models.plan import predict_array
from models.sampling import Plan, make_plan, predict, row_blocks, sample
from models.trace import trace_dropout

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")


def network(kind: str, head: str = "regression", input_p: float = 0.2, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    outputs = 3 if head == "classification" else 1
    return MLP(
        MLPConfig(6, outputs, (20, 15), dropout=kind, p=(0.1, 0.4), input_p=input_p, head=head)
    )


def masked_loop(net: MLP, plan: Plan, x: Tensor, seed: int, n_samples: int) -> Tensor:
    """Sample by sample, row by row of the definition: one thinned network each, in float64."""
    stream = MaskStream(plan.sites, seed)
    activation = ACTIVATIONS[net.config.activation]
    outputs = []
    for _ in range(n_samples):
        masks = [None if m is None else m[0].double() for m in stream.take(1)]
        h = x.double()
        for i, linear in enumerate(net.linears):
            weight, bias = linear.weight.double(), linear.bias.double()
            if masks[i] is not None and net.config.dropout == "dropconnect":
                weight = weight * masks[i].reshape(weight.shape)
            elif masks[i] is not None:
                h = h * masks[i]
            h = h @ weight.t() + bias
            if i < len(net.linears) - 1:
                h = activation(h)
        if net.config.head == "regression":
            h[:, 1:] = h[:, 1:].clamp(*LOG_VARIANCE_RANGE)
        outputs.append(h)
    return torch.stack(outputs).detach()


@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", KINDS)
def test_predict_is_eval_mode(kind: str, head: str) -> None:
    net = network(kind, head)
    x = torch.randn(33, 6)
    torch.testing.assert_close(predict(make_plan(net), x), net.eval().raw(x))


@pytest.mark.parametrize("dropout", ["bernoulli", "dropconnect"])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_arrays_get_the_bits_of_tensors_in_blocks_too(
    dropout: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = network(dropout, "classification").config
    plan = make_plan(MLP(replace(config, eval_temperature=temperature)))
    x = torch.randn(33, 6)
    expected = predict(plan, x).numpy()
    np.testing.assert_array_equal(predict_array(plan, x.numpy()), expected)
    monkeypatch.setattr("models.plan.BLOCK_PRODUCTS", 20 * plan.products_per_row)
    np.testing.assert_array_equal(predict_array(plan, x.numpy()), expected)
    np.testing.assert_array_equal(predict_array(plan, np.asfortranarray(x.numpy())), expected)
    if plan.kernel is not None:
        with pytest.raises(ValueError, match="6 columns are due"):
            predict_array(plan, np.zeros((2, 5), np.float32))


@pytest.mark.parametrize("input_p", [0.0, 0.2])
@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_a_plain_loop(kind: str, head: str, input_p: float) -> None:
    net = network(kind, head, input_p)
    plan = make_plan(net)
    x = torch.randn(9, 6)
    fast = sample(plan, x, seed=11, n_samples=40)
    torch.testing.assert_close(
        fast.double(), masked_loop(net, plan, x, 11, 40), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_some_layers_may_drop(kind: str) -> None:
    torch.manual_seed(0)
    for p in ((0.0, 0.3), (0.3, 0.0), (0.0, 0.0)):
        net = MLP(MLPConfig(6, 1, (20, 15), dropout=kind, p=p))
        plan = make_plan(net)
        x = torch.randn(5, 6)
        fast = sample(plan, x, seed=1, n_samples=10)
        torch.testing.assert_close(
            fast.double(), masked_loop(net, plan, x, 1, 10), rtol=1e-4, atol=1e-5
        )
        assert plan.is_stochastic == (max(p) > 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_samples", [2, 7, 100])
def test_a_row_alone_and_in_a_batch_gets_the_same_figures(kind: str, n_samples: int) -> None:
    plan = make_plan(network(kind))
    x = torch.randn(256, 6)
    together = sample(plan, x, seed=3, n_samples=n_samples)
    for row in (0, 100, 255):
        alone = sample(plan, x[row : row + 1], seed=3, n_samples=n_samples)
        torch.testing.assert_close(alone[:, 0], together[:, row], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_size_give_the_same_figures(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(network(kind))
    x = torch.randn(40, 6)
    whole = sample(plan, x, seed=5, n_samples=60)
    for floats in (1, 100, 5000):
        monkeypatch.setattr(sampling, "BLOCK_FLOATS", floats)
        torch.testing.assert_close(
            sample(plan, x, seed=5, n_samples=60), whole, rtol=1e-5, atol=1e-7
        )


def test_the_same_call_gives_the_same_bits() -> None:
    plan = make_plan(network("bernoulli"))
    x = torch.randn(17, 6)
    first = sample(plan, x, seed=9, n_samples=50)
    assert torch.equal(sample(plan, x, seed=9, n_samples=50), first)
    assert not torch.equal(sample(plan, x, seed=10, n_samples=50), first)


def test_later_samples_can_be_drawn_without_the_earlier() -> None:
    plan = make_plan(network("bernoulli"))
    x = torch.randn(4, 6)
    whole = sample(plan, x, seed=9, n_samples=50)
    late = sample(plan, x, seed=9, n_samples=20, first=30)
    torch.testing.assert_close(late, whole[30:], rtol=1e-5, atol=1e-7)


def test_a_stop_rule_sees_all_samples_so_far_and_ends_the_drawing() -> None:
    plan = make_plan(network("bernoulli"))
    x = torch.randn(4, 6)
    seen: list[Tensor] = []

    def rule(drawn: Tensor) -> bool:
        seen.append(drawn.clone())
        return len(drawn) >= 20

    drawn = sample(plan, x, seed=9, n_samples=1000, should_stop=rule)
    assert [len(part) for part in seen] == [2, 6, 14, 30]
    assert torch.equal(seen[-1], drawn)
    whole = sample(plan, x, seed=9, n_samples=1000)
    torch.testing.assert_close(drawn, whole[:30], rtol=1e-5, atol=1e-7)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gave."""

    numel = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and 0 not in tensor.stride():  # expanded: no memory
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_is_larger_than_a_few_blocks(kind: str, *, stops: bool) -> None:
    """With the masks of 32 samples DropConnect would need 8 million weights at once here, and
    the others 5 million units for all samples."""
    plan = make_plan(MLP(MLPConfig(6, 1, (512, 512), dropout=kind, p=0.2)))
    n_samples = 64 if kind == "dropconnect" else 10_000
    with Largest() as largest:
        rule = (lambda _: False) if stops else None
        drawn = sample(plan, torch.randn(2, 6), seed=0, n_samples=n_samples, should_stop=rule)
    assert len(drawn) == n_samples
    assert largest.numel <= 4 * sampling.BLOCK_FLOATS


def test_masks_are_drawn_for_all_layers_within_the_same_bound() -> None:
    """As seen by NumPy, which draws them: at most 4 blocks of words, and as many of floats."""
    plan = make_plan(MLP(MLPConfig(6, 1, (256,) * 8, dropout="dropconnect", p=0.2)))
    tracemalloc.start()
    sample(plan, torch.randn(2, 6), seed=0, n_samples=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * sampling.BLOCK_FLOATS * 4


def test_a_stop_rule_sees_two_samples_even_where_a_block_holds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "BLOCK_FLOATS", 1)
    plan = make_plan(network("dropconnect"))
    seen: list[int] = []
    sample(
        plan, torch.randn(4, 6), seed=9, n_samples=20,
        should_stop=lambda drawn: seen.append(len(drawn)) is not None,
    )  # fmt: skip
    assert seen == [2, 6, 14, 20]


@pytest.mark.parametrize("p", [(0.4, 0.0), (0.0, 0.4)])
@pytest.mark.parametrize("head", ["regression", "classification"])
def test_the_trace_of_dropconnect_has_a_mask_for_every_weight_of_a_layer(
    head: str, p: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    outputs = 3 if head == "classification" else 1
    net = MLP(MLPConfig(6, outputs, (20, 15), dropout="dropconnect", p=p, input_p=0.2, head=head))
    layers = trace_dropout(make_plan(net), torch.randn(1, 6), seed=0, n_samples=5).layers
    assert [layer.mask.shape for layer in layers] == [(20, 6), (15, 20), (outputs, 15)]
    for layer in layers:
        dropped = np.mean(layer.mask == 0.0)
        assert layer.fraction_dropped == pytest.approx(dropped)
        assert (dropped > 0.0) == (layer.p > 0.0)
        assert layer.masked_activations.shape == (len(layer.mask),)


def test_a_plan_does_not_follow_later_training() -> None:
    net = network("bernoulli")
    plan = make_plan(net)
    x = torch.randn(3, 6)
    before = predict(plan, x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert torch.equal(predict(plan, x), before)


def test_serving_never_touches_the_mode() -> None:
    net = network("bernoulli").train()
    plan = make_plan(net)
    predict(plan, torch.randn(3, 6))
    sample(plan, torch.randn(3, 6), seed=0, n_samples=3)
    assert net.training


def test_a_log_variance_is_kept_within_bounds() -> None:
    net = network("bernoulli")
    with torch.no_grad():
        net.linears[-1].bias[1] = 1e6
    plan = make_plan(net)
    assert predict(plan, torch.randn(3, 6))[:, 1].tolist() == [LOG_VARIANCE_RANGE[1]] * 3


def test_row_blocks_cover_all_rows_once() -> None:
    rows = [list(range(block.start, block.stop)) for block in row_blocks(10, 7, 21)]
    assert rows == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert list(row_blocks(2, 100, 1)) == [slice(0, 1), slice(1, 2)]

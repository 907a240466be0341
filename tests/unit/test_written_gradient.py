"""The written gradient is the automatic one, and the optimiser on flat tensors is torch's."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models import MLP, MLPConfig, kernel
from models.adamw import AdamW
from models.flat import flatten, flatten_gradients
from models.objective import Objective
from models.training_masks import TrainingMasks
from models.training_run import Run, Split, TrainingOptions
from models.written_gradient import WrittenGradient, covers

REGRESSION = MLPConfig(3, 1, (24, 16), p=(0.3, 0.6), input_p=0.2)
CLASSES = replace(REGRESSION, head="classification", out_features=4)


class Fixed(nn.Module):
    """Dropout by a mask that is given."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def masks_of(config: MLPConfig, n: int) -> list[Tensor]:
    """What the second epoch's first batch of n rows is multiplied by."""
    masks = TrainingMasks(config, 32, "cpu", seed=5)
    masks.begin_epoch(1)
    sizes = (config.in_features, *config.hidden)
    return [
        masks.drop(layer, torch.ones((n, size), dtype=torch.double))
        for layer, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize("n", [32, 7])
@pytest.mark.parametrize(
    ("config", "smoothing", "class_weights", "noise_bias"),
    [
        (REGRESSION, 0.0, None, 0.0),
        (REGRESSION, 0.0, None, 30.0),  # beyond the bounds of the noise: no gradient
        (replace(REGRESSION, p=(0.0, 0.5), input_p=0.0), 0.0, None, -1.0),
        (replace(REGRESSION, p=(0.5, 1.0)), 0.0, None, 0.0),
        (replace(REGRESSION, hidden=(9,), p=0.1), 0.0, None, 0.0),
        (CLASSES, 0.0, None, 0.0),
        (CLASSES, 0.2, None, 0.0),
        (CLASSES, 0.1, torch.tensor([0.5, 3.0, 1.0, 0.2], dtype=torch.double), 0.0),
    ],
)
def test_the_written_gradient_is_the_automatic_one(
    config: MLPConfig,
    smoothing: float,
    class_weights: Tensor | None,
    noise_bias: float,
    n: int,
    dtype: torch.dtype,
) -> None:
    """In single precision partly by compiled code, where there is any."""
    torch.manual_seed(0)
    network = MLP(config).to(dtype)
    class_weights = None if class_weights is None else class_weights.to(dtype)
    with torch.no_grad():
        network.linears[-1].bias[-1] += noise_bias
    oracle = copy.deepcopy(network)
    for layer, mask in enumerate(masks_of(config, n)):
        oracle.dropouts[layer] = Fixed(mask.to(dtype))
    flatten_gradients(oracle.parameters())
    gradients = flatten_gradients(network.parameters()).fill_(7.0)  # what was there must go
    masks = TrainingMasks(config, 32, "cpu", seed=5)
    masks.begin_epoch(1)
    written = WrittenGradient(network, masks, 32, smoothing, class_weights)
    assert covers(network)
    x = torch.randn(n, 3, dtype=dtype)
    given = x.clone()
    y = torch.randn(n, dtype=dtype)
    if config.head == "classification":
        y = torch.randint(0, 4, (n,))
    loss = written(x, y)
    expected = Objective(oracle, 100, smoothing, class_weights)(x, y)
    rtol, atol = (1e-10, 1e-12) if dtype is torch.double else (1e-5, 1e-6)
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=atol)
    rtol, atol = (1e-6, 1e-9) if dtype is torch.double else (1e-4, 1e-6)
    for mine, theirs in zip(network.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=rtol, atol=atol)
    assert gradients.abs().sum() > 0
    assert torch.equal(x, given), "dropout of the input leaves the rows as they were"


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_training_masks_drop_with_probability_p(p: float) -> None:
    """z < 4.27: a false alarm in 50,000, of the share dropped and of what two units, rows,
    layers, steps or epochs have in common."""
    n, size = 128, 64
    config = MLPConfig(size, 1, (size, size), p=p, input_p=p)
    masks = TrainingMasks(config, n, "cpu", seed=3)
    drawn = []
    for epoch in range(2):
        masks.begin_epoch(epoch)
        drawn += [masks.drop(layer, torch.ones(n, size)) for _ in range(4) for layer in range(3)]
    found = torch.stack(drawn)  # (24, n, size)
    q = round(p * 2**16) / 2**16
    torch.testing.assert_close(found.max(), torch.tensor(1 / (1 - q)))
    noise = ((found == 0).double() - q) / (q * (1 - q)) ** 0.5
    assert abs(noise.mean()) * noise.numel() ** 0.5 < 4.27
    for one, other in (
        (noise[1:], noise[:-1]), (noise[12:], noise[:12]), (noise[3:], noise[:-3]),
        (noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1]),
    ):  # fmt: skip
        assert abs((one * other).mean()) * one.numel() ** 0.5 < 4.27


def test_training_masks_are_a_function_of_seed_and_epoch() -> None:
    config = MLPConfig(3, 1, (64,), p=0.5)

    def draw(seed: int, epoch: int, before: int = 0) -> Tensor:
        masks = TrainingMasks(config, 16, "cpu", seed)
        for _ in range(before):
            masks.drop(1, torch.ones(16, 64))
        masks.begin_epoch(epoch)
        return masks.drop(1, torch.ones(16, 64))

    assert torch.equal(draw(0, 4), draw(0, 4, before=3))
    assert not torch.equal(draw(0, 4), draw(1, 4))
    assert not torch.equal(draw(0, 4), draw(0, 5))


def test_adamw_on_flat_tensors_is_torchs() -> None:
    torch.manual_seed(0)
    network = MLP(replace(REGRESSION, dropout="concrete")).double()
    theirs = copy.deepcopy(network)
    weights = list(theirs.linears.parameters())
    log_odds = list(theirs.dropouts.parameters())
    groups = [{"params": weights}, {"params": log_odds, "weight_decay": 0.0}]
    oracle = torch.optim.AdamW(groups, weight_decay=0.3)
    values, gradients = flatten(network.parameters()), flatten_gradients(network.parameters())
    n_decayed = sum(parameter.numel() for parameter in weights)
    mine = AdamW(values, gradients, values.clone(), n_decayed, weight_decay=0.3)
    for rate in (0.1, 0.05, 0.2):
        gradients.normal_()
        for parameter, other in zip(network.parameters(), theirs.parameters(), strict=True):
            other.grad = parameter.grad.clone()
        for group in oracle.param_groups:
            group["lr"] = rate
        oracle.step()
        mine.step(rate)
    for parameter, other in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not kernel.is_available(), reason="no compiled kernel")
@pytest.mark.parametrize(
    ("dropout", "max_norm"), [("bernoulli", None), ("bernoulli", 0.5), ("concrete", None)]
)
def test_what_is_compiled_trains_the_same_network(
    dropout: str, max_norm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks to the bit; errors, steps and running mean up to rounding."""
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    x[3] = -40.0  # a gradient to be shortened
    training = Split(x, x[:, 0] * x[:, 1])
    options = TrainingOptions(
        epochs=4, batch_size=64, gradient_clip=0.5, weight_decay=0.1, max_norm=max_norm
    )
    config = MLPConfig(5, 1, (37, 20), p=(0.1, 1.0), input_p=0.3, dropout=dropout)

    def run() -> tuple[Run, list[float]]:
        run = Run(config, training, training, options.resolved(len(x)))
        return run, [run.train_epoch().training_loss for _ in range(4)]

    def drop() -> list[Tensor]:
        masks = TrainingMasks(config, 64, "cpu", seed=5)
        masks.begin_epoch(1)
        sizes = (5, 37, 20)
        return [
            masks.drop(i, torch.arange(-9.0, 63 * n - 9).view(63, n)) for i, n in enumerate(sizes)
        ]

    torch.manual_seed(1)
    (mine, losses), dropped = run(), drop()
    monkeypatch.setattr(kernel, "is_available", lambda: False)
    torch.manual_seed(1)
    (theirs, expected), oracle = run(), drop()
    assert all(torch.equal(one, other) for one, other in zip(dropped, oracle, strict=True))
    assert losses == pytest.approx(expected, rel=1e-4)
    for one, other in ((mine.network, theirs.network), (mine.average, theirs.average)):
        for weight, expected_one in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(weight, expected_one, rtol=1e-3, atol=1e-5)
    for name, value in mine.optimiser.state.items():
        torch.testing.assert_close(value, theirs.optimiser.state[name], rtol=1e-3, atol=1e-6)

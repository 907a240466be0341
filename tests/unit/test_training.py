"""Fitting: it learns, it stops, and its options do what they say."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import MLP, MLPConfig
from models.errors import TrainingError
from models.objective import concrete_penalty
from models.training import fit
from models.training_run import Run, Split, TrainingOptions
from tests.unit.splits import KINDS, SMALL, classification, regression

OPTIONS = TrainingOptions(epochs=40, batch_size=32)


@pytest.mark.parametrize("kind", KINDS)
def test_regression_learns(kind: str) -> None:
    training, validation = regression()
    result = fit(replace(SMALL, dropout=kind), training, validation, OPTIONS)
    losses = [epoch.validation_loss for epoch in result.history]
    assert min(losses) < 0.35  # 1 is what the mean would do
    with torch.no_grad():
        loss = (result.network(validation.x)[:, 0] - validation.y).square().mean().item()
    assert loss == pytest.approx(min(losses), rel=1e-5)
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert not result.network.training


@pytest.mark.parametrize("kind", KINDS)
def test_classification_learns(kind: str) -> None:
    training, validation = classification()
    config = MLPConfig(3, 2, (32, 32), dropout=kind, head="classification")
    result = fit(config, training, validation, OPTIONS)
    with torch.no_grad():
        right = (result.network(validation.x).argmax(dim=1) == validation.y).float().mean()
    assert right > 0.85


def test_the_noise_variance_is_learned_beside_the_mean() -> None:
    """Noise that grows with x: the head's std follows it, within a quarter."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4000, 1, generator=generator) * 2 - 1
    std = 0.1 + 0.4 * (x[:, 0] + 1) / 2
    y = x[:, 0] + std * torch.randn(4000, generator=generator)
    config = MLPConfig(1, 1, (32,), p=0.0)
    result = fit(config, Split(x[500:], y[500:]), Split(x[:500], y[:500]), OPTIONS)
    at = torch.tensor([[-0.9], [0.0], [0.9]])
    with torch.no_grad():
        learned = result.network.raw(at)[:, 1].mul(0.5).exp()
    expected = torch.tensor([0.12, 0.3, 0.48])
    assert ((learned / expected - 1).abs() < 0.25).all()


def test_the_seed_decides_and_torchs_generator_is_left_alone() -> None:
    training, validation = regression(200)
    options = TrainingOptions(epochs=2)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = fit(SMALL, training, validation, options)
    assert torch.equal(torch.get_rng_state(), state)
    assert fit(SMALL, training, validation, options).history == first.history
    other = fit(SMALL, training, validation, replace(options, seed=1))
    assert other.history != first.history


def test_max_norm_bounds_every_hidden_unit() -> None:
    training, validation = regression()
    bounded = fit(SMALL, training, validation, replace(OPTIONS, max_norm=0.5)).network
    free = fit(SMALL, training, validation, OPTIONS).network
    for linear in bounded.linears[:-1]:
        assert linear.weight.norm(dim=1).max() <= 0.5 + 1e-5
    assert max(linear.weight.norm(dim=1).max() for linear in free.linears[:-1]) > 0.6


def test_early_stopping_counts_epochs_without_improvement() -> None:
    training, validation = regression(60)
    options = TrainingOptions(epochs=500, learning_rate=0.02, early_stopping_patience=7)
    result = fit(SMALL, training, validation, options)
    assert len(result.history) == result.best_epoch + 7
    assert len(result.history) < 500
    assert [e.epoch for e in result.history if e.is_best][-1] == result.best_epoch


def test_the_last_epoch_can_be_kept_whatever_the_validation_rows_say(tmp_path: Path) -> None:
    training, _ = regression(200)
    wrong = Split(training.x, -training.y)  # the better the fit, the worse the validation loss
    options = TrainingOptions(epochs=12, early_stopping_patience=2, averaging=0.0)
    stopped = fit(SMALL, training, wrong, options)
    assert len(stopped.history) < 12
    options = replace(options, keep="last")
    result = fit(SMALL, training, wrong, options, checkpoint=tmp_path / "run")
    assert len(result.history) == result.best_epoch == 12
    with torch.no_grad():
        loss = (result.network(wrong.x)[:, 0] - wrong.y).square().mean().item()
    assert loss == pytest.approx(result.history[-1].validation_loss, rel=1e-5)
    assert loss > stopped.history[0].validation_loss
    again = fit(SMALL, training, wrong, options, checkpoint=tmp_path / "run").network
    assert torch.equal(again(wrong.x), result.network(wrong.x))


def test_the_cosine_falls_from_the_rate_to_nearly_nothing() -> None:
    training, validation = regression(100)
    options = TrainingOptions(epochs=10, learning_rate=0.01)
    rates = [e.learning_rate for e in fit(SMALL, training, validation, options).history]
    assert rates[0] == 0.01
    assert rates[5] == pytest.approx(0.005)
    assert rates[-1] < 0.001


def test_the_plateau_halves_when_nothing_improves() -> None:
    training, validation = regression(60)
    options = TrainingOptions(
        epochs=500, learning_rate=0.02, schedule="plateau", early_stopping_patience=8
    )
    history = fit(SMALL, training, validation, options).history
    stalled = [e.learning_rate for e in history[-8:]]
    assert stalled[-1] == pytest.approx(stalled[0] / 8)


def test_balanced_class_weights_lift_the_rare_class() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1000, 2, generator=generator)
    y = (x[:, 0] + 0.7 * torch.randn(1000, generator=generator) > 2.0).long()
    config = MLPConfig(2, 2, (16,), head="classification")
    share = []
    for weights in (None, "balanced"):
        options = TrainingOptions(epochs=20, class_weights=weights)
        network = fit(config, Split(x, y), Split(x[:200], y[:200]), options).network
        share.append((network(x).argmax(dim=1) == 1).float().mean().item())
    assert share[1] > 2 * max(share[0], y.float().mean().item())


def test_balanced_class_weights_leave_what_is_certain_as_it_is() -> None:
    """One row in 250 is rare, and easy to tell: no common row may be taken for it."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2000, 2, generator=generator)
    y = (torch.arange(2000) % 250 == 0).long()
    x[y == 1, 0] += 12.0
    config = MLPConfig(2, 2, (16,), head="classification")
    options = TrainingOptions(epochs=60, class_weights="balanced")
    network = fit(config, Split(x, y), Split(x[:500], y[:500]), options).network
    assert (network(x).argmax(dim=1) == y).float().mean() > 0.995


def test_label_smoothing_keeps_a_certain_class_from_certainty() -> None:
    """All rows alike and of one class of four: p = 1 - s + s/4 is best at smoothing s, and the
    loss that is reported is the plain one there."""
    rows = Split(torch.zeros(64, 3), torch.ones(64, dtype=torch.long))
    config = MLPConfig(3, 4, (16,), p=0.0, head="classification")
    run = Run(config, rows, rows, TrainingOptions(epochs=300, label_smoothing=0.2).resolved(64))
    for _ in range(300):
        report = run.train_epoch()
    probabilities = run.network(rows.x[:1])[0].softmax(dim=0)
    expected = torch.tensor([0.05, 0.85, 0.05, 0.05])
    torch.testing.assert_close(probabilities, expected, atol=0.002, rtol=0.0)
    assert report.training_loss == pytest.approx(-math.log(0.85), abs=0.003)


def test_gradient_clipping_bounds_the_step() -> None:
    training, validation = regression(100)
    huge = Split(training.x * 1e3, training.y)
    run = Run(SMALL, huge, validation, TrainingOptions(epochs=1, gradient_clip=0.1).resolved(100))
    run.train_epoch()
    # A mean of the gradients that were followed.
    assert 0.01 < run.optimiser.state["mean"].norm() <= 0.1 + 1e-6


def test_a_loss_that_is_no_number_is_an_error_with_advice() -> None:
    training, validation = regression(100)
    wild = Split(training.x * 1e30, training.y)
    options = TrainingOptions(epochs=5, gradient_clip=None)
    with pytest.raises(TrainingError, match="try a lower learning_rate") as caught:
        fit(SMALL, wild, validation, options)
    assert caught.value.code == "diverged"


@pytest.mark.parametrize(
    ("n", "batch", "epochs"), [(100, 32, 300), (5000, 128, 250), (10**6, 256, 30)]
)
def test_the_number_of_rows_decides_what_is_left_open(n: int, batch: int, epochs: int) -> None:
    options = TrainingOptions().resolved(n)
    assert (options.batch_size, options.epochs) == (batch, epochs)
    assert TrainingOptions(epochs=7, batch_size=9).resolved(n) == TrainingOptions(
        epochs=7, batch_size=9
    )


def test_concrete_dropout_moves_its_p() -> None:
    """Down where dropped units cost accuracy, up where there is nothing to lose: up there
    only by its regulariser, as any noise costs."""
    training, validation = regression()
    config = replace(SMALL, dropout="concrete", p=0.3)
    network = fit(config, training, validation, OPTIONS).network
    _, first, second = network.probabilities
    assert 0.0 < first < 0.29
    assert 0.0 < second < 0.2999
    nothing = Split(training.x, torch.zeros_like(training.y))
    run = Run(config, nothing, validation, OPTIONS)
    for _ in range(40):
        run.train_epoch()
    _, first, second = run.network.probabilities
    assert min(first, second) > 0.31


def test_weight_decay_leaves_the_p_of_concrete_dropout_alone() -> None:
    """One step from the same start: decay moves every weight, and no p."""
    training, validation = regression()
    config = replace(SMALL, dropout="concrete", p=0.01, input_p=0.02)
    networks = []
    for weight_decay in (0.0, 2.0):
        torch.manual_seed(0)
        options = TrainingOptions(epochs=1, batch_size=1000, weight_decay=weight_decay)
        run = Run(config, training, validation, options)
        run.train_epoch()
        networks.append(run.network)
    free, decayed = networks
    assert free.probabilities == decayed.probabilities
    assert all(p != start for p, start in zip(free.probabilities, (0.02, 0.01, 0.01), strict=True))
    for a, b in zip(free.linears, decayed.linears, strict=True):
        torch.testing.assert_close(b.weight - a.weight, -0.006 * a.weight, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize(("head", "factor"), [("regression", 2.0), ("classification", 1.0)])
def test_concrete_dropouts_penalty_is_the_papers(head: str, factor: float) -> None:
    """For each row: l²/2 · |W|²/(1-p) - K · H(p), twice that beside a squared error."""
    config = MLPConfig(3, 2, (8, 6), dropout="concrete", p=(0.0, 0.2), input_p=0.3, head=head)
    network = MLP(config)
    expected = 0.0
    for linear, p in ((network.linears[0], 0.3), (network.linears[2], 0.2)):
        entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
        squares = linear.weight.square().sum().item()
        expected += 0.5e-4 * squares / (1 - p) - linear.weight.shape[1] * entropy
    penalty = concrete_penalty(network, 50)
    assert penalty.item() == pytest.approx(factor / 50 * expected)
    assert concrete_penalty(MLP(replace(config, dropout="bernoulli")), 50) == 0

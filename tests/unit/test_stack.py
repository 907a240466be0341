"""Fits in lockstep: each network ends as a run of its own would."""

from dataclasses import replace

import pytest
import torch

from models import MLP, MLPConfig
from models.stack import Member, fit_stack
from models.training_run import Run, Split, TrainingOptions

# One batch holds all rows, so that their order is nothing but rounding.
OPTIONS = TrainingOptions(epochs=60, batch_size=40, early_stopping_patience=60, max_norm=1.0)


def data(head: str = "regression") -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 3, generator=generator)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] + 0.3 * torch.randn(120, generator=generator)
    return Split(x, y if head == "regression" else (y > 0.8).long())


@pytest.mark.parametrize("head", ["regression", "classification"])
def test_without_dropout_a_stack_is_so_many_runs(head: str) -> None:
    """Weight decay, rows, clipping, max-norm, averaging and losses: all as in `Run`, whose
    first weights are drawn in the same order."""
    split, options = data(head), replace(OPTIONS, class_weights=None)
    config = MLPConfig(3, 1 if head == "regression" else 2, (16, 8), p=0.0, head=head)
    members = [
        Member(torch.arange(40 * i, 40 * i + 40), 0.0, decay) for i, decay in enumerate((0, 1, 3))
    ]
    stacked = fit_stack(config, split, members, options)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        firsts = [MLP(config).state_dict() for _ in members]
    for member, first, network in zip(members, firsts, stacked, strict=True):
        own = Split(split.x[member.rows], split.y[member.rows])
        run = Run(config, own, own, replace(options, weight_decay=member.weight_decay))
        for part in (run.network, run.average):
            part.load_state_dict(first)
        for _ in range(60):
            run.train_epoch()
        for ours, theirs in zip(network.parameters(), run.average.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "dropconnect"])
def test_a_stack_learns_with_every_kind(kind: str) -> None:
    split = data()
    config = MLPConfig(3, 1, (32, 32), dropout=kind, input_p=0.01)
    rows = torch.arange(120)
    options = replace(OPTIONS, max_norm=None, epochs=200, batch_size=20)
    stack = fit_stack(config, split, [Member(rows, 0.05, 0.0), Member(rows, 0.6, 0.0)], options)
    assert [network.probabilities for network in stack] == [(0.01, 0.05, 0.05), (0.01, 0.6, 0.6)]
    with torch.no_grad():
        light, heavy = ((net(split.x)[:, 0] - split.y).square().mean().item() for net in stack)
    # The noise has variance 0.09 beside 1.3 of the signal; a strong dropout fits less closely.
    assert light < 0.12
    assert light < heavy < 0.9


def test_the_seed_decides_and_torchs_generator_is_left_alone() -> None:
    split, config = data(), MLPConfig(3, 1, (8,))
    members = [Member(torch.arange(100), 0.1, 0.01)] * 2
    options = replace(OPTIONS, epochs=3)
    before = torch.get_rng_state()
    first, same, other = (
        fit_stack(config, split, members, replace(options, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    weights = [[net.linears[0].weight for net in stack] for stack in (first, same, other)]
    assert torch.equal(weights[0][0], weights[1][0])
    assert not torch.equal(weights[0][0], weights[2][0])
    assert not torch.equal(weights[0][0], weights[0][1])


def test_what_a_stack_cannot_do_it_says() -> None:
    member = Member(torch.arange(10), 0.1, 0.0)
    with pytest.raises(ValueError, match="Concrete"):
        fit_stack(MLPConfig(3, 1, (8,), dropout="concrete"), data(), [member], OPTIONS)
    other = replace(member, rows=torch.arange(9))
    with pytest.raises(ValueError, match="same number of rows"):
        fit_stack(MLPConfig(3, 1, (8,)), data(), [member, other], OPTIONS)

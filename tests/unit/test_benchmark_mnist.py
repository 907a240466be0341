"""The MNIST benchmark's own sums, on numbers small enough to do by hand; no data needed."""

from pathlib import Path

import pytest
import torch

from benchmarks.journal import Journal
from benchmarks.mnist import ROWS
from benchmarks.mnist_curve import find_crossing, group_errors
from benchmarks.mnist_figures import measure
from models import MLP, MLPConfig


def test_groups_are_disjoint_and_averaged_before_the_class_is_taken() -> None:
    labels = torch.tensor([0, 0])
    # Probabilities of class 0 for two rows, sample by sample; the fifth fills no pair.
    first = torch.tensor([[0.9, 0.4], [0.4, 0.4], [0.2, 0.9], [0.6, 0.9], [0.0, 0.0]])
    samples = torch.stack([first, 1.0 - first], dim=-1)
    assert group_errors(samples, labels, 1) == [50.0, 100.0, 50.0, 0.0, 100.0]
    # Pairs: (0.65, 0.4) and (0.4, 0.9): votes instead of means would tie in both.
    assert group_errors(samples, labels, 2) == [50.0, 50.0]
    # Four: (0.525, 0.65), right on both rows though no pair is.
    assert group_errors(samples, labels, 4) == [0.0]


@pytest.mark.parametrize(
    ("means", "reference", "crossing"),
    [
        ({1: 3.0, 10: 1.2, 50: 1.0, 100: 0.9}, 1.0, 50),
        ({1: 3.0, 10: 0.9, 50: 1.1, 100: 0.9}, 1.0, 100),  # a dip that does not last
        ({1: 3.0, 10: 1.2}, 1.0, None),
        ({1: 0.5, 10: 0.4}, 1.0, 1),
    ],
)
def test_the_crossing_is_where_the_error_stays_at_or_below_the_reference(
    means: dict[int, float], reference: float, crossing: int | None
) -> None:
    assert find_crossing(means, reference) == crossing


def test_activity_is_that_of_eval_mode_after_the_activation() -> None:
    network = MLP(MLPConfig(2, 3, (2, 2), p=0.9, input_p=0.9, head="classification")).train()
    with torch.no_grad():
        for linear in network.linears[:-1]:
            linear.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
            linear.bias.copy_(torch.tensor([0.5, 0.0]))
    layers = measure(network, torch.tensor([[1.0, 3.0]])).layers
    assert [layer.tolist() for layer in layers] == [[[1.5, 0.0]], [[2.0, 1.5]]]


def test_finished_pieces_are_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new")
    assert journal.read("a", "epoch") == []
    for run, kind, value in [("a", "epoch", 1), ("b", "epoch", 2), ("a", "errors", 3)]:
        journal.write(run, kind, value=value)
    journal.write("a", "epoch", value=4)
    assert [piece["value"] for piece in journal.read("a", "epoch")] == [1, 4]


def test_every_row_of_the_table_is_a_run_of_its_own_on_the_same_layers() -> None:
    assert len({row.run for row in ROWS}) == len(ROWS) == 6
    assert {row.config.hidden for row in ROWS} == {(1024, 1024, 1024)}
    for row in ROWS:
        expected = (0.0, 0.0) if row.dropout is None else (0.2, 0.5)
        assert (row.config.input_p, row.config.layer_p[-1]) == expected
        assert row.options.keep == "last"  # nothing is chosen, least of all on test rows


def test_every_benchmark_can_be_asked_for() -> None:
    from benchmarks.__main__ import BENCHMARKS  # noqa: PLC0415 - all of them, as the command does

    assert {"chaos", "jobs", "search", "swap"} <= set(BENCHMARKS)

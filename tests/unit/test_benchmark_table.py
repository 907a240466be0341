"""The page of results keeps what is written by hand, and the peers serve the network that we do."""

import math

import numpy as np
import pytest
import torch

from benchmarks import regression, table
from benchmarks.__main__ import BENCHMARKS
from benchmarks.peers import network
from benchmarks.peers.environments import Environments, NotInstallableError, pinned
from benchmarks.table import BEGIN, END, PAGE, renew
from benchmarks.verdict import Row
from models import MLP, MLPConfig


def test_the_table_runs_by_name():
    assert BENCHMARKS["table"] is table.run


def test_only_what_stands_between_the_marks_is_written_anew():
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nWhy: a reason.\n"
    assert renew(page, "new") == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nWhy: a reason.\n"
    assert renew(renew(page, "newer"), "new") == renew(page, "new")
    for damaged in ("no marks", f"{END} before {BEGIN}", BEGIN):
        with pytest.raises(ValueError, match="lacks"):
            renew(damaged, "new")
    assert renew(PAGE.read_text(), "new") != PAGE.read_text()


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"),
    [
        (2.0, True, "met"),
        (2.1, True, "missed"),
        (2.0, False, "met"),
        (1.9, False, "missed"),
        (math.nan, True, "not measured"),
        (math.nan, False, "not measured"),
    ],
)
def test_a_row_says_whether_its_target_is_met(measured, at_most, verdict):
    row = Row("what", measured, 2.0, at_most)
    assert row.verdict == verdict
    assert row.met is (verdict == "met")
    assert row.bound == ("≤ 2 ×" if at_most else "≥ 2 ×")


def test_peers_have_our_network(tmp_path):
    torch.manual_seed(0)
    ours = MLP(MLPConfig(regression.N_FEATURES, 1, (32, 16), p=0.1)).eval()
    regression.write_weights(ours, tmp_path / "weights.safetensors")
    theirs = network.load(str(tmp_path / "weights.safetensors"))
    rows = regression.make_rows(5)
    expected = ours(torch.from_numpy(rows))[:, 0].tolist()
    answered = [row["value"] for row in network.predict(theirs, rows.tolist())]
    np.testing.assert_allclose(answered, expected, rtol=1e-5, atol=1e-6)
    # In `train()` it drops, with the same p.
    assert [m.p for m in theirs if isinstance(m, torch.nn.Dropout)] == [0.1, 0.1]


def test_what_cannot_be_installed_is_said_and_not_tried_again(tmp_path, monkeypatch):
    environments = Environments(tmp_path)
    tried: list[object] = []

    def refuse(folder, wanted):
        tried.append((folder, wanted))
        raise NotInstallableError("no such release")

    monkeypatch.setattr("benchmarks.peers.environments._install", refuse)
    for _ in range(2):
        with pytest.raises(NotInstallableError, match="no such release"):
            environments.python("peer", ["peer==1.0"])
    assert tried == [(tmp_path / "peer", ["peer==1.0", *pinned("torch", "safetensors")])]


def test_an_environment_of_these_packages_is_used_as_it_is(tmp_path):
    folder = tmp_path / "peer"
    folder.mkdir()
    wanted = ["peer==1.0", *pinned("torch", "safetensors")]
    (folder / "installed.txt").write_text("\n".join(wanted) + "\n")
    assert Environments(tmp_path).python("peer", ["peer==1.0"]) == folder / "bin" / "python"

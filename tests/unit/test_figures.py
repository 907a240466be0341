"""Figures that processes share, and what is left of them."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from service.figures import PREFIX, Family, Figures

SIZES = Family("dropcast_sizes", "histogram", "Sizes", ("kind",), (0.1, 1.0, 10.0))
SEEN = Family("dropcast_seen", "counter", "Seen")


def samples(figures: Figures) -> dict[str, float]:
    return {
        s.name + s.labels.get("le", ""): s.value
        for family in figures.collect()
        for s in family.samples
    }


def test_many_values_count_as_one_by_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 500)
    values[:3] = (0.1, 1.0, 10.0)  # A bound belongs to its bucket.
    alone, together = Figures(tmp_path / "a"), Figures(tmp_path / "b")
    one = alone.histogram(SIZES, "x")
    for value in values.tolist():
        one.observe(value)
    together.histogram(SIZES, "x").observe_all(values)
    found = samples(together)
    assert found == pytest.approx(samples(alone))
    assert found["dropcast_sizes_count"] == 500
    assert found["dropcast_sizes_bucket1.0"] == (values <= 1.0).sum()
    assert found["dropcast_sizes_sum"] == pytest.approx(values.sum())
    alone.close()
    together.close()


def test_a_file_that_grows_keeps_what_was_counted_before_and_after(tmp_path: Path) -> None:
    figures = Figures(tmp_path)
    early = figures.cell(SEEN)
    early.add(1)
    size = (tmp_path / "counter_0.db").stat().st_size
    long = Family("dropcast_long", "counter", "Long", ("name",))
    late = [figures.cell(long, f"{i:0200}") for i in range(size // 200)]
    assert (tmp_path / "counter_0.db").stat().st_size > size
    for cell in (early, late[0], late[-1]):
        cell.add(2)
    assert samples(figures)["dropcast_seen_total"] == 3
    figures.close()
    following = Figures(tmp_path)
    kept = [s.value for family in following.collect() for s in family.samples]
    assert sum(kept) == 3 + 2 + 2
    following.close()


def test_the_next_process_in_a_slot_counts_on(tmp_path: Path) -> None:
    first = Figures(tmp_path)
    first.cell(SEEN).add(3)
    first.close()
    second, third = Figures(tmp_path), Figures(tmp_path)
    second.cell(SEEN).add(1)
    third.cell(SEEN).add(1)
    for figures in (second, third):
        assert samples(figures) == {"dropcast_seen_total": 5}
        assert figures.processes() == [("0", os.getpid()), ("1", os.getpid())]
    second.close()
    third.close()


def test_folders_of_killed_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living, dead = Figures(), Figures()
    (left,) = set(tmp_path.iterdir()) - {folder_of(living, tmp_path)}
    dead.close()
    young = tmp_path / f"{PREFIX}young"
    young.mkdir()
    for folder in set(tmp_path.iterdir()) - {young}:
        os.utime(folder, (0, 0))
    other = Figures()
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 3, "those of the living, and one that is new"
    living.close()
    other.close()


def folder_of(figures: Figures, parent: Path) -> Path:
    """The folder that this one alone writes into."""
    figures.cell(SEEN).add(7)
    (folder,) = [
        p for p in parent.iterdir() if b"dropcast_seen" in (p / "counter_0.db").read_bytes()
    ]
    return folder

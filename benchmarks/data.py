"""The data sets that benchmarks use, with their splits; none of them is part of the project
but the two examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.ingest import read_table
from models.table import Task


@dataclass(frozen=True)
class DataSet:
    """A table, its target, and pairs of training and test rows."""

    name: str
    table: pa.Table
    target: str
    task: Task
    splits: list[tuple[np.ndarray, np.ndarray]]


UCI = ("concrete", "energy", "yacht", "wine-quality-red")
TABULAR: dict[str, tuple[str, str, Task]] = {
    "penguins": ("penguins.csv", "species", "classification"),
    "california": ("california_housing.csv", "median_house_value", "regression"),
}


def load(folder: Path, n_splits: int) -> Iterator[DataSet]:
    """Every set that is there, smallest first; says which are not."""
    yield from load_tables(folder, n_splits)
    if _is_there(path := folder / "mnist.npz"):
        yield _mnist(path)


def load_tables(folder: Path, n_splits: int) -> Iterator[DataSet]:
    """All but the pictures."""
    yield from load_uci(folder, n_splits)
    for name, (file, target, task) in TABULAR.items():
        if _is_there(path := folder / "tabular" / file):
            table = read_table(path, "csv")
            yield DataSet(name, table, target, task, _random_splits(table.num_rows, n_splits))
    paths = [folder / "tabular" / f"adult_{part}.csv" for part in ("train", "test")]
    if all(_is_there(path) for path in paths):
        training, test = (read_table(path, "csv") for path in paths)
        table = pa.concat_tables([training, test.cast(training.schema)])
        yield DataSet("adult", table, "income", "classification", [_cut(training, table)])


def load_one(folder: Path, name: str, n_splits: int = 1) -> DataSet:
    """One of the tables.

    Raises:
        LookupError: it is not there.
    """
    for data in load_tables(folder, n_splits):
        if data.name == name:
            return data
    raise LookupError(name)


def load_uci(folder: Path, n_splits: int, names: Sequence[str] = UCI) -> Iterator[DataSet]:
    """The sets of the published table, with the first of its 20 splits."""
    for name in names:
        if _is_there(path := folder / "uci" / f"{name}.npz"):
            yield _uci(name, path, n_splits)


def _is_there(path: Path) -> bool:
    if not path.exists():
        print(f"skipped: {path} is not there (see --data)")
    return path.exists()


def _uci(name: str, path: Path, n_splits: int) -> DataSet:
    arrays = np.load(path)
    x, y = arrays["X"], arrays["y"]
    table = pa.table({**{f"x{i}": x[:, i] for i in range(x.shape[1])}, "y": y})
    splits = list(zip(arrays["train_idx"], arrays["test_idx"], strict=True))[:n_splits]
    return DataSet(name, table, "y", "regression", splits)


def _mnist(path: Path) -> DataSet:
    arrays = np.load(path)
    pixels = np.concatenate([arrays["x_train"], arrays["x_test"]]).reshape(-1, 784)
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    columns = {f"p{i}": pixels[:, i].astype(np.float64) for i in range(784)}
    table = pa.table({**columns, "digit": labels})
    rows = np.arange(len(labels))
    return DataSet("mnist", table, "digit", "classification", [(rows[:60_000], rows[60_000:])])


def _random_splits(n_rows: int, n_splits: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A fifth of the rows for testing."""
    splits = []
    for seed in range(n_splits):
        order = np.random.default_rng(seed).permutation(n_rows)
        splits.append((order[n_rows // 5 :], order[: n_rows // 5]))
    return splits


def _cut(training: pa.Table, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(training.num_rows), np.arange(training.num_rows, table.num_rows)

"""What the answers are compared with: the service's own routes, read with the standard library.

The scripts beside it run in environments of their own, so that it needs nothing but Python and
NumPy, which every client brings.
"""

import json
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

import numpy as np

E = TypeVar("E", bound=Exception)

# Of the example models: all numbers, and a mixed table with a value missing.
CONCRETE = np.array(
    [[540, 0, 0, 162, 2.5, 1040, 676, 28], [332.5, 142.5, 0, 228, 0, 932, 594, 270]], np.float32
)
PENGUINS = [
    {"island": "Biscoe", "bill_length_mm": 46.5, "bill_depth_mm": 17.9,
     "flipper_length_mm": 192.0, "body_mass_g": 3500.0, "sex": None},
    {"island": "Dream", "bill_length_mm": 39.5, "bill_depth_mm": 16.7,
     "flipper_length_mm": 178.0, "body_mass_g": 3250.0, "sex": "FEMALE"},
]  # fmt: skip
CATEGORIES = ("island", "sex")
MC = {"mode": "mc_dropout", "n_samples": 30, "seed": 7, "quantiles": "0.1, 0.9"}


class Service:
    """The service at that address, asked in its own words."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **body: object) -> list[dict]:
        request = urllib.request.Request(f"{self.url}/v1/models/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["predictions"]

    def concrete(self) -> np.ndarray:
        """(N, 1)"""
        rows = self.ask("concrete:predict", instances=CONCRETE.tolist())
        return np.float32([[row["value"]] for row in rows])

    def concrete_mc(self) -> dict[str, np.ndarray]:
        """mean and std (N, 1), quantiles (N, Q, 1)"""
        rows = self.ask(
            "concrete:uncertainty", instances=CONCRETE.tolist(), n_samples=30, seed=7,
            quantiles=[0.1, 0.9],
        )  # fmt: skip
        return {
            "mean": np.float32([[row["mean"]] for row in rows]),
            "std": np.float32([[row["std"]] for row in rows]),
            "quantiles": np.float32([[[q] for q in row["quantiles"].values()] for row in rows]),
        }

    def penguins(self) -> tuple[np.ndarray, list[str]]:
        """(N, C), and labels"""
        rows = self.ask("penguins:predict", instances=PENGUINS)
        probabilities = [list(row["probabilities"].values()) for row in rows]
        return np.float32(probabilities), [row["label"] for row in rows]

    def penguins_mc(self) -> dict[str, np.ndarray]:
        """mean (N, C), entropy and mutual_information (N,), samples (T, N, C)"""
        rows = self.ask(
            "penguins:uncertainty", instances=PENGUINS, n_samples=30, seed=7, return_samples=True
        )
        samples = [[list(sample.values()) for sample in row["samples"]] for row in rows]
        return {
            "mean": np.float32([list(row["probabilities"].values()) for row in rows]),
            "entropy": np.float32([row["entropy"] for row in rows]),
            "mutual_information": np.float32([row["mutual_information"] for row in rows]),
            "samples": np.float32(samples).transpose(1, 0, 2),
        }


def column(name: str) -> np.ndarray:
    """Of the penguins, as an array of floats or of objects; what is missing is NaN or empty."""
    values = [row[name] for row in PENGUINS]
    if name in CATEGORIES:
        return np.array([value or "" for value in values], dtype=object)
    return np.array([np.nan if value is None else value for value in values])


def same(got: object, expected: np.ndarray) -> None:
    """To the last bit: tensors are FP32, and so is what is expected."""
    np.testing.assert_array_equal(np.asarray(got).reshape(expected.shape), expected)


def error_of(kind: type[E], call: Callable[[], object]) -> E:
    """What it raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was due")


def run(package: str, calls: list[Callable[[Service], None]]) -> None:
    """Makes every call on the service named on the command line, and writes down which."""
    service = Service(sys.argv[1])
    for call in calls:
        call(service)
    done = [(call.__doc__ or "").strip() for call in calls]
    json.dump({"client": package, "version": version(package), "calls": done}, sys.stdout)

"""T thinned networks of N rows on a GPU and on the CPU: time until the outputs are on the CPU.

Wall time, as a GPU takes no processor's; the ways take turns, and the median of each counts. Masks
are kept from one time to the next, or drawn anew of another seed.
"""

from __future__ import annotations

import argparse
import time
from itertools import count
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import interleave
from models import MLP, MLPConfig
from models.sampling import Plan, make_plan, sample

INPUTS, HIDDEN, P = 13, (256, 256), 0.1
SAMPLES = (100, 1000)
ROWS = (1, 4, 16, 64, 256, 1024, 4096)
ROUNDS = 15
# With the CPU's, as tests/unit/test_gpu.py asks for them: relative, and absolute beside that.
TOLERANCE = 1e-4, 1e-5


def run(_: argparse.Namespace) -> None:
    """Prints the table, or that there is no GPU."""
    console = Console(width=110)
    if not torch.cuda.is_available():
        console.print("gpu: not measured, there is no CUDA device here")
        return
    console.print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    console.print(compare("cuda", SAMPLES, ROWS))


def compare(device: str, samples: tuple[int, ...], rows: tuple[int, ...]) -> Table:
    """Milliseconds there and on the CPU, and the largest difference over what is allowed."""
    torch.manual_seed(0)
    network = MLP(MLPConfig(INPUTS, 1, HIDDEN, p=P))
    here, there = make_plan(network), make_plan(network, device)
    table = Table(
        "T", "N", "CPU", "GPU", "CPU, new seed", "GPU, new seed", "difference / tolerance",
        title="Milliseconds of T samples of N rows, 13-256-256-1 with p = 0.1",
    )  # fmt: skip
    for n_samples in samples:
        for n_rows in rows:
            x = torch.randn(n_rows, INPUTS)
            seeds = count(1)
            found = interleave(
                {
                    "CPU": lambda x=x, t=n_samples: _ms(here, x, 0, t),
                    "GPU": lambda x=x, t=n_samples: _ms(there, x, 0, t),
                    "CPU, new": lambda x=x, t=n_samples, s=seeds: _ms(here, x, next(s), t),
                    "GPU, new": lambda x=x, t=n_samples, s=seeds: _ms(there, x, next(s), t),
                },
                ROUNDS if n_rows * n_samples < 10**6 else 3,
            )
            # The first round warms caches, captures the graph, and is left away.
            times = [f"{median(times[1:]):.3g}" for times in found.values()]
            table.add_row(
                str(n_samples), str(n_rows), *times, f"{_off(here, there, x, n_samples):.2g}"
            )
    return table


def _ms(plan: Plan, x: torch.Tensor, seed: int, n_samples: int) -> float:
    started = time.perf_counter()
    sample(plan, x, seed=seed, n_samples=n_samples).cpu()
    return 1e3 * (time.perf_counter() - started)


def _off(here: Plan, there: Plan, x: torch.Tensor, n_samples: int) -> float:
    """At most 1 where the GPU's outputs are the CPU's within the tolerance."""
    expected = sample(here, x, seed=0, n_samples=n_samples)
    found = sample(there, x, seed=0, n_samples=n_samples).cpu()
    relative, absolute = TOLERANCE
    return float(((found - expected).abs() / (absolute + relative * expected.abs())).max())

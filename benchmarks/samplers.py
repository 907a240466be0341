"""Others' Monte Carlo dropout against ours, without HTTP: the same weights, T and rows.

Processor time of one thread, each in a process of its own, in turns. Of the two ways that each of
them has, the faster one counts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, repeat
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.interleaved import interleave, processor_seconds, ratio
from benchmarks.peers.environments import ROOT, Environments, NotInstallableError
from benchmarks.regression import N_FEATURES, write_weights
from benchmarks.verdict import Row
from models import MLP, MLPConfig
from models.draw import Draw
from models.estimators import estimate
from models.sampling import make_plan
from models.table import Target

ROUNDS = 5
# Rows, units of a layer, layers, samples.
CASES = ((1, 256, 2, 100), (1, 512, 3, 1000), (32, 256, 2, 100), (256, 512, 3, 100))
ONE_ROW_TARGET, TARGET = 10.0, 3.0


@dataclass(frozen=True)
class Sampler:
    """A package, the loop that runs it, and the ways it has."""

    name: str
    requirements: Sequence[str]
    modes: tuple[str, str]

    @property
    def title(self) -> str:
        """With its version."""
        return f"{self.name} {self.requirements[0].partition('==')[2]}"

    @contextmanager
    def run(self, environments: Environments) -> Iterator[subprocess.Popen[str]]:
        """Its process; installed before, if it is not.

        Raises:
            NotInstallableError: it cannot be.
        """
        python = environments.python(self.name, self.requirements)
        module = f"benchmarks.peers.{self.name.replace('-', '_')}_loop"
        process = subprocess.Popen(
            [python, "-m", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            yield process
        finally:
            process.communicate()


SAMPLERS = (
    Sampler("baal", ["baal==2.1.0"], ("replicate", "iterate")),
    Sampler("torch-uncertainty", ["torch-uncertainty==0.13.0"], ("on_batch", "loop")),
)


def rows(environments: Environments) -> Iterator[Row]:
    """A row for each of them and each size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for sampler in SAMPLERS:
        try:
            with sampler.run(environments) as process:
                for case in CASES:
                    yield _row(sampler, process, case)
        except (NotInstallableError, BrokenPipeError, json.JSONDecodeError) as error:
            yield Row(
                f"MC engine against {sampler.title}", nan, TARGET, at_most=False, note=str(error)
            )
    torch.set_num_threads(threads)


def _row(sampler: Sampler, process: subprocess.Popen[str], case: tuple[int, int, int, int]) -> Row:
    n_rows, units, layers, n_samples = case
    torch.manual_seed(0)
    network = MLP(MLPConfig(N_FEATURES, 1, (units,) * layers, p=0.1))
    plan, target, x = make_plan(network), Target("y"), torch.randn(n_rows, N_FEATURES)
    kept = repeat(Draw(n_samples, 0, "mc"))
    fresh = (Draw(n_samples, seed, "mc") for seed in count(1))

    def ours(draws: Iterator[Draw]) -> float:
        return processor_seconds(lambda: estimate(plan, target, x, next(draws)))

    def theirs(mode: str) -> float:
        asked = {"weights": str(weights), "rows": n_rows, "samples": n_samples, "mode": mode}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        return float(json.loads(process.stdout.readline()))

    with TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        write_weights(network, weights)
        ours(kept)
        one, other = sampler.modes
        found = interleave(
            {
                "kept": lambda: ours(kept),
                "fresh": lambda: ours(fresh),
                one: lambda: theirs(one),
                other: lambda: theirs(other),
            },
            ROUNDS,
        )
    ratios = {mode: ratio(found[mode], found["kept"]) for mode in sampler.modes}
    new_seeds = min(ratio(found[mode], found["fresh"]) for mode in sampler.modes)
    return Row(
        f"MC engine against {sampler.title}: {n_rows} rows, {layers} layers of {units}, "
        f"T={n_samples}",
        min(ratios.values()),
        ONE_ROW_TARGET if n_rows == 1 else TARGET,
        at_most=False,
        note=f"{1e3 * median(found['kept']):.3g} ms; "
        + ", ".join(f"{mode} {value:.1f}×" for mode, value in ratios.items())
        + f"; with a new seed each time {new_seeds:.1f}×",
    )

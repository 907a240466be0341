"""`python -m benchmarks [NAME …]`: runs these benchmarks, or all."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from benchmarks import (
    accuracy,
    chaos,
    coverage,
    engine,
    estimators,
    gpu,
    jobs,
    memory,
    mnist,
    operations,
    overload,
    prediction_sets,
    search,
    shift,
    soak,
    swap,
    table,
    training,
    uci,
    upload,
    wire,
)

BENCHMARKS = {
    "operations": operations.run,
    "jobs": jobs.run,
    "chaos": chaos.run,
    "engine": engine.run,
    "gpu": gpu.run,
    "training": training.run,
    "memory": memory.run,
    "accuracy": accuracy.run,
    "estimators": estimators.run,
    "coverage": coverage.run,
    "prediction_sets": prediction_sets.run,
    "shift": shift.run,
    "swap": swap.run,
    "table": table.run,
    "search": search.run,
    "soak": soak.run,
    "overload": overload.run,
    "uci": uci.run,
    "upload": upload.run,
    "mnist": mnist.run,
    "wire": wire.run,
}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with uci/, tabular/ and mnist.npz; sets that are not there are skipped",
    )
    parser.add_argument(
        "--splits", type=int, help="splits of each data set; without it, as many as its page says"
    )
    parser.add_argument("--only", nargs="*", help="only these data sets")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("var/benchmarks"),
        help="folder for finished pieces: a benchmark that was cut off goes on from there",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument(
        "--gigabytes", type=float, default=1.0, help="of the file that upload sends"
    )
    parser.add_argument(
        "--minutes", type=float, help="that soak (15) and overload (1) take, start aside"
    )
    parser.add_argument("--kills", type=int, default=60, help="processes that chaos kills")
    parser.add_argument("--seed", type=int, default=0, help="of when chaos kills which")
    parser.add_argument("--swaps", type=int, default=50, help="of production, under load")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    for name in arguments.names or BENCHMARKS:
        BENCHMARKS[name](arguments)


if __name__ == "__main__":
    main()

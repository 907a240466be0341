"""Draws docs/uncertainty.svg from a running service: python docs/picture.py [URL]

One concrete mixture, asked with more and more cement: the eval-mode prediction, and what
Monte Carlo dropout says of it, within the range of the training data and beyond it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import httpx
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
MIXTURE = {
    "blast_furnace_slag": 0,
    "fly_ash": 0,
    "water": 185,
    "superplasticizer": 6,
    "coarse_aggregate": 970,
    "fine_aggregate": 775,
    "age": 28,
}


def main() -> None:
    """Asks, and draws."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    amounts = np.linspace(180, 1100, 140)
    response = httpx.post(
        f"{url}/v1/models/concrete:uncertainty",
        json={
            "instances": [MIXTURE | {"cement": amount} for amount in amounts],
            "return_samples": True,
            "coverage": 0.9,
        },
        timeout=60,
    )
    response.raise_for_status()
    rows = response.json()["predictions"]
    with (ROOT / "service/examples/concrete.csv").open() as file:
        known = sorted({float(row["cement"]) for row in csv.DictReader(file)})

    mpl.rcParams.update({"font.size": 11, "svg.hashsalt": "dropcast", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(8.2, 3.9), layout="constrained")
    lower = [row["interval"]["lower"] for row in rows]
    upper = [row["interval"]["upper"] for row in rows]
    axes.fill_between(
        amounts, lower, upper, color="#f2c14e", alpha=0.45, lw=0, label="90 % interval"
    )
    samples = np.array([row["samples"] for row in rows])
    for i in range(25):
        label = "25 of 100 thinned networks" if i == 0 else None
        axes.plot(amounts, samples[:, i], color="#4d7ea8", alpha=0.4, lw=0.7, label=label)
    axes.plot(amounts, [row["value"] for row in rows], color="#1d1d1f", lw=2, label="eval mode")
    known = [amount for amount in known if amount >= amounts[0]]
    bottom = min(lower) - 8
    axes.plot(
        known,
        [bottom + 2.5] * len(known),
        "|",
        color="#b23a48",
        ms=9,
        alpha=0.3,
        label="training data",
    )
    axes.axvspan(max(known), amounts[-1], color="#000000", alpha=0.05, lw=0)
    axes.annotate("no data here", (max(known) + 15, bottom + 1.5), color="#6b6b6b")
    axes.set(xlabel="cement in kg/m³", ylabel="compressive strength in MPa")
    axes.set(xlim=(amounts[0], amounts[-1]), ylim=(bottom, None))
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(loc="upper left", frameon=False, fontsize=9.5)
    for handle in legend.legend_handles:
        handle.set_alpha(0.8)
    figure.savefig(ROOT / "docs/uncertainty.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

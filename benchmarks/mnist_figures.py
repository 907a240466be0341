"""Figures of the MNIST benchmark, after figures 7, 8 and 11 of Srivastava et al. 2014."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from models.mlp import MLP

mpl.use("Agg")
COLOURS = ("#b3561f", "#1f6f8b")
# An activation is near zero below this share of its layer's mean activation.
NEAR_ZERO = 0.1


@dataclass(frozen=True)
class Activity:
    """Hidden activations (N, H) of each layer in eval mode."""

    layers: tuple[Tensor, ...]

    @property
    def first(self) -> np.ndarray:
        return self.layers[0].numpy()


def measure(network: MLP, x: Tensor) -> Activity:
    """What every hidden unit answers to inputs (N, D), dropout off."""
    layers = []
    with torch.no_grad():
        for linear in network.linears[:-1]:
            x = network.activation(linear(x))
            layers.append(x)
    return Activity(tuple(layers))


def tabulate_activity(activities: dict[str, Activity]) -> Table:
    """Mean activation, and the shares that are zero or near it, by network and layer."""
    table = Table(
        "network", "hidden layer", "mean activation", "exactly zero",
        f"below {NEAR_ZERO:g} of the mean", "units never active",
        title="Hidden activations on the test rows, eval mode",
    )  # fmt: skip
    for name, activity in activities.items():
        for i, layer in enumerate(activity.layers):
            mean = layer.double().mean().item()
            table.add_row(
                name,
                str(i + 1),
                f"{mean:.3f}",
                f"{_share(layer == 0):.1%}",
                f"{_share(layer < NEAR_ZERO * mean):.1%}",
                f"{_share((layer == 0).all(dim=0)):.1%}",
            )
    return table


def _share(condition: Tensor) -> float:
    return condition.double().mean().item()


def draw_curve(errors: dict[int, list[float]], reference: float, path: Path) -> None:
    """Error of the mean of k thinned networks over k, beside weight scaling."""
    sizes = list(errors)
    means = [float(np.mean(errors[size])) for size in sizes]
    spreads = [float(np.std(errors[size], ddof=1)) for size in sizes]
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    axes.errorbar(
        sizes, means, yerr=spreads, marker="o", capsize=3, color=COLOURS[1],
        label="Monte Carlo average, ± standard deviation over groups",
    )  # fmt: skip
    axes.axhline(reference, color=COLOURS[0], linestyle="--", label="weight scaling")
    axes.set(
        xscale="log",
        xticks=sizes,
        xticklabels=[str(size) for size in sizes],
        xlabel="thinned networks averaged",
        ylabel="test error in %",
    )
    axes.minorticks_off()
    axes.legend(frameon=False)
    _save(figure, path)


def draw_weights(networks: dict[str, MLP], path: Path, side: int = 8) -> None:
    """What the first units of the first hidden layer weigh of each pixel: the first in order,
    none picked; one grey scale for each network, since their weights differ in size."""
    figure, panels = plt.subplots(1, len(networks), figsize=(4.6 * len(networks), 4.9))
    for axes, (name, network) in zip(panels, networks.items(), strict=True):
        weight = network.linears[0].weight
        assert isinstance(weight, Tensor)
        images = weight.detach()[: side * side].reshape(side, side, 28, 28).numpy()
        frame = np.full((side, side, 30, 30), np.nan, dtype=np.float32)
        frame[:, :, 1:-1, 1:-1] = images
        limit = float(np.quantile(np.abs(images), 0.999))
        axes.imshow(
            frame.transpose(0, 2, 1, 3).reshape(side * 30, side * 30),
            cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest",
        )  # fmt: skip
        axes.set_title(f"{name} (black, white: ∓{limit:.2f})", fontsize=10)
        axes.set_axis_off()
    _save(figure, path)


def draw_activity(activities: dict[str, Activity], path: Path) -> None:
    """Histograms over the first hidden layer: of units' mean activations, of all activations."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.8))
    means = {name: activity.first.mean(axis=0) for name, activity in activities.items()}
    all_means = np.concatenate(list(means.values()))
    largest = max(np.quantile(activity.first, 0.999) for activity in activities.values())
    for (name, activity), colour in zip(activities.items(), COLOURS, strict=True):
        shares = np.full(len(means[name]), 100.0 / len(means[name]))
        bins = np.linspace(0.0, all_means.max(), 41)
        style = {"color": colour, "alpha": 0.6, "label": name}
        left.hist(means[name], bins=bins, weights=shares, **style)
        counts, edges = np.histogram(activity.first, bins=np.linspace(0.0, largest, 41))
        right.stairs(100.0 * counts / activity.first.size, edges, fill=True, **style)
    left.set(xlabel="mean activation of a unit over the test rows", ylabel="% of units")
    right.set(xlabel="activation", ylabel="% of activations", yscale="log")
    left.legend(frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)

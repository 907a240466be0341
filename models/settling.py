"""What the validation rows decide once the weights are found: noise, or temperature.

They have chosen the epoch already. The calibration rows stay untouched, so that what is
calibrated and measured on them holds. All but the eval temperature is written into the last
layer, so that an artifact carries nothing but its network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from models.held_out import draw
from models.mlp import MLP
from models.noise import fit_noise, set_noise
from models.sampling import make_plan, predict
from models.training_run import Split

Array = np.ndarray

# More rows than these change neither a temperature nor the noise.
MOST_SETTLING_ROWS = 2_000
# Spread of the log temperature's normal prior around 0: a temperature of 1.5, or of 1/1.5,
# has to be worth half a nat over all rows together.
PRIOR_SPREAD = math.log(1.5)
# Bounds of the log temperature.
LARGEST_LOG_TEMPERATURE = math.log(10.0)


@dataclass(frozen=True)
class Settled:
    """A network as it is served, and by mode the temperatures that its logits have been, or in
    eval mode will be, divided by in all."""

    network: MLP
    temperatures: Mapping[str, float] = field(default_factory=dict)


@torch.no_grad()
def settle(network: MLP, validation: Split) -> Settled:
    """A copy with its noise variance (regression) or temperatures (classes) settled.

    Raises:
        TrainingError: an output of the network is not a finite number.
    """
    network = copy.deepcopy(network)
    if network.config.head == "regression":
        _settle_noise(network, validation)
        return Settled(network)
    return Settled(network, _settle_temperatures(network, validation))


def fit_temperature(logits: Array, truth: Array) -> float:
    """The temperature τ that makes mean softmax(logits/τ) over samples, (T, N, C), most
    likely for the true classes (N,), with a weak prior at 1.

    Source: Guo et al. 2017, section 4.2, there of one network; Laves et al. 2019 of MC
    dropout. Searched by three rounds of ever finer steps, to 1 %.
    """
    gaps = torch.from_numpy(logits) - torch.from_numpy(logits).amax(dim=2, keepdim=True)
    positions = torch.from_numpy(truth).expand(len(logits), -1).unsqueeze(2)
    own = gaps.gather(2, positions).squeeze(2)

    def loss(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        logs = own * sharpness - (gaps * sharpness).exp_().sum(dim=2).log()
        nll = -(logs.logsumexp(dim=0) - math.log(len(logs))).sum().item()
        return nll + 0.5 * (log_temperature / PRIOR_SPREAD) ** 2

    return math.exp(_least(loss, 0.0, LARGEST_LOG_TEMPERATURE))


def _least(loss: Callable[[float], float], centre: float, reach: float) -> float:
    for _ in range(3):
        points = np.linspace(centre - reach, centre + reach, 21)
        centre, reach = float(points[np.argmin([loss(point) for point in points])]), reach / 8.0
    return centre


def _settle_temperatures(network: MLP, validation: Split) -> dict[str, float]:
    """One temperature for the mean over samples, written into the last layer; for eval mode
    what is then left to do, which the network's config keeps."""
    plan = make_plan(network)
    x = validation.x[:MOST_SETTLING_ROWS]
    truth = validation.y[:MOST_SETTLING_ROWS].numpy()
    of_eval = fit_temperature(predict(plan, x).double().numpy()[None], truth)
    of_mean = fit_temperature(draw(plan, x), truth) if plan.is_stochastic else of_eval
    for parameter in network.linears[-1].parameters():
        parameter.div_(of_mean)
    network.config = replace(network.config, eval_temperature=of_eval / of_mean)
    return {"eval_mode": of_eval, "mc_mode": of_mean}


def _settle_noise(network: MLP, validation: Split) -> None:
    """The noise under which the mixture that is served makes the validation rows likeliest.

    Not the noise that is left of the residuals beside the masks' variance: where masks explain
    them all that is nearly none, and a mixture of so narrow Gaussians has gaps.
    """
    x, y = validation.x[:MOST_SETTLING_ROWS], validation.y[:MOST_SETTLING_ROWS]
    set_noise(network, fit_noise(draw(make_plan(network), x), y.double().numpy()))

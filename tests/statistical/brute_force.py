"""What many textbook samples say of small networks, for estimators to be compared with."""

from functools import cache

import numpy as np
import torch

from models import MLP, MLPConfig
from models.draw import Draw
from models.estimators import estimate
from models.sampling import Plan, make_plan, sample
from models.table import Target
from models.uncertainty import RegressionSummary, Summary, moments, summarise

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")
Y = Target("y", mean=3.0, std=2.0)
CLASSES = Target("c", labels=("a", "b", "c"))
N_SEEDS, T = 60, 50
N_BRUTE = 60_000
LEVELS = (0.1, 0.5, 0.9)
# Narrow layers; and one of so many units that their sum counts as Gaussian.
NARROW, WIDE = (48, 40), (96, 64)
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


def plan_of(
    kind: str, head: str, hidden: tuple[int, ...] = NARROW, p: float = 0.2, seed: int = 1
) -> Plan:
    torch.manual_seed(seed)
    outputs = 3 if head == "classification" else 1
    net = MLP(MLPConfig(6, outputs, hidden, dropout=kind, p=p, head=head))
    # As large as trained weights, so that the activations bend.
    with torch.no_grad():
        for linear in net.linears:
            linear.weight *= 2.0
    return make_plan(net)


def target_of(head: str) -> Target:
    return CLASSES if head == "classification" else Y


def figures(summary: Summary) -> np.ndarray:
    """All that is estimated of each row, variances for stds, side by side."""
    if isinstance(summary, RegressionSummary):
        parts = [summary.mean, summary.epistemic_std**2, summary.aleatoric_std**2]
        return np.column_stack([*parts, summary.quantiles])
    parts = [summary.probabilities, summary.std**2]
    scalars = [summary.entropy, summary.expected_entropy, summary.mutual_information]
    return np.column_stack([*parts, *scalars])


@cache
def brute_force(
    kind: str, head: str, hidden: tuple[int, ...] = NARROW, p: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread over textbook samples, whose fast path has tests of its own."""
    raw = sample(plan_of(kind, head, hidden, p), X, seed=2**33, n_samples=N_BRUTE)
    return moments(summarise(target_of(head), raw.double().numpy()))


@cache
def brute_figures(kind: str, head: str, hidden: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Figures of 20 sets of textbook samples: their mean, and its standard error."""
    plan, target = plan_of(kind, head, hidden), target_of(head)
    found = [
        estimate(plan, target, X, Draw(3_000, 2**33 + i, "mc", LEVELS)).summary for i in range(20)
    ]
    sets = np.array([figures(summary) for summary in found])
    return sets.mean(axis=0), sets.std(axis=0, ddof=1) / 20**0.5

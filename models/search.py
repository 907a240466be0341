"""Choosing p and the weight decay by the likelihood of rows that did not train.

Each trial is scored in MC mode, noise included, as a version's metrics are: by
cross-validation where rows are few, and one part of them tells little. A round of trials is
fitted in lockstep; after the first, which starts at the default, the tree-structured Parzen
estimator proposes (Bergstra et al. 2011, by way of Optuna). Calibration rows are never seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.errors import TrainingError
from models.mlp import MLP, MLPConfig
from models.noise import Noise, fit_noise
from models.recipe import Prepared, Recipe
from models.sampling import make_plan, sample
from models.scores import classification_errors
from models.stack import Member, fit_stack
from models.table import softmax
from models.training_run import Split, TrainingOptions

if TYPE_CHECKING:
    import optuna

Array = np.ndarray

P_RANGE = (0.003, 0.6)
WEIGHT_DECAY_RANGE = (1e-3, 1.0)
# Of the first round, with the weight decay that was given; the first is the default.
FIRST_P = (0.1, 0.01, 0.03, 0.3)
# Rows from which on one part of them is enough to judge by.
MANY_ROWS = 5_000
N_SAMPLES, SEED = 100, 0


@dataclass(frozen=True)
class Budget:
    """How much to spend: rounds of as many trials as there are values in `FIRST_P`, each trial
    a fit of every fold for this share of the epochs."""

    rounds: int
    n_folds: int
    epochs_share: float

    @property
    def n_trials(self) -> int:
        return self.rounds * len(FIRST_P)


def default_budget(n_rows: int) -> Budget:
    """8 trials at a third of the epochs: with few rows a fit of four folds each, in all about 4
    fits of the default network to the last epoch; with many of one part of the rows, about 3."""
    return Budget(2, 4 if n_rows < MANY_ROWS else 1, 1 / 3)


@dataclass(frozen=True)
class Fold:
    """Row numbers: those that train, and those that judge."""

    training: Tensor
    judging: Tensor


@dataclass(frozen=True)
class Trial:
    """What was tried, and the mean negative log-likelihood of the judging rows (nats; for
    regression of the standardised target, under the noise given here); None if training
    diverged. Numbers count from 1 to `n_trials`."""

    number: int
    n_trials: int
    p: float
    weight_decay: float
    nll: float | None
    noise: Noise | None = None


@dataclass(frozen=True)
class Choice:
    """The best of all trials, and all of them."""

    best: Trial
    trials: tuple[Trial, ...]

    def describe(self) -> dict[str, Any]:
        """For the version's card."""
        keys = ("number", "p", "weight_decay", "nll")
        trials = [{key: getattr(trial, key) for key in keys} for trial in self.trials]
        return {"chosen": self.best.number, "trials": trials}


def choose_dropout(
    prepared: Prepared,
    recipe: Recipe,
    *,
    on_trial: Callable[[Trial], object] = lambda _: None,
    record: Path | None = None,
) -> tuple[Prepared, Recipe, Choice]:
    """The same table and recipe with p and the weight decay chosen within the default budget,
    and how; training and validation rows judge, all together when they are few.

    Raises:
        TrainingError: training diverged in every trial.
        ValueError: Concrete dropout, which learns its p.
    """
    training, validation = prepared.training, prepared.validation
    data = Split(torch.cat([training.x, validation.x]), torch.cat([training.y, validation.y]))
    budget = default_budget(len(data))
    if budget.n_folds == 1:
        rows = torch.arange(len(data))
        folds = [Fold(rows[: len(training)], rows[len(training) :])]
    else:
        folds = make_folds(len(data), budget.n_folds, recipe.seed)
    choice = search(
        prepared.config, data, folds, recipe.training, budget, on_trial=on_trial, record=record
    )
    p, weight_decay = choice.best.p, choice.best.weight_decay
    return (
        replace(prepared, config=replace(prepared.config, p=p)),
        replace(recipe, p=p, training=replace(recipe.training, weight_decay=weight_decay)),
        choice,
    )


def make_folds(n_rows: int, n_folds: int, seed: int) -> list[Fold]:
    """Folds (2 or more) that judge each row once; all train on the same number of rows."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_rows))
    parts = torch.tensor_split(order, n_folds)
    n_training = n_rows - max(len(part) for part in parts)
    return [
        Fold(torch.cat([*parts[:i], *parts[i + 1 :]])[:n_training], part)
        for i, part in enumerate(parts)
    ]


def search(
    config: MLPConfig,
    data: Split,
    folds: Sequence[Fold],
    options: TrainingOptions,
    budget: Budget,
    *,
    on_trial: Callable[[Trial], object] = lambda _: None,
    record: Path | None = None,
) -> Choice:
    """The p, for all hidden layers, and the weight decay under which the judging rows are
    likeliest.

    With `record` the rounds that are done are kept in that JSON file, and those found there are
    neither fitted nor reported again: a search that was cut off ends as an undisturbed one.

    Raises:
        TrainingError: training diverged in every trial.
        ValueError: Concrete dropout, which learns its p.
    """
    options = options.resolved(len(folds[0].training))
    assert options.epochs is not None
    options = replace(options, epochs=max(1, round(budget.epochs_share * options.epochs)))
    proposer = _Proposer(options)
    done = _read(record)
    trials: list[Trial] = []
    for _ in range(budget.rounds):
        proposals = proposer.propose()
        known = done[len(trials) : len(trials) + len(proposals)]
        if [(trial.p, trial.weight_decay) for trial in known] != proposals:
            scores = cross_validate(config, data, folds, options, proposals)
            known = [
                Trial(len(trials) + i, budget.n_trials, *proposal, *score)
                for i, (proposal, score) in enumerate(zip(proposals, scores, strict=True), 1)
            ]
            for trial in known:
                on_trial(trial)
        proposer.learn(known)
        trials.extend(known)
        _write(record, trials)
    finite = [trial for trial in trials if trial.nll is not None]
    if not finite:
        raise TrainingError(
            "diverged", "training diverged at every p that was tried: try a lower learning_rate"
        )
    best = min(finite, key=lambda trial: trial.nll or 0.0)
    return Choice(best, tuple(trials))


class _Proposer:
    """Optuna's sampler, asked for a round at a time."""

    def __init__(self, options: TrainingOptions) -> None:
        import optuna  # noqa: PLC0415 - half a second, for the jobs that search

        self._failed = optuna.trial.TrialState.FAIL
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=options.seed, n_startup_trials=len(FIRST_P))
        self._study = optuna.create_study(sampler=sampler)
        lowest, highest = WEIGHT_DECAY_RANGE
        weight_decay = min(max(options.weight_decay, lowest), highest)
        for p in FIRST_P:
            self._study.enqueue_trial({"p": p, "weight_decay": weight_decay})
        self._asked: list[optuna.trial.Trial] = []

    def propose(self) -> list[tuple[float, float]]:
        """Values of p and weight decay, to two digits."""
        self._asked = [self._study.ask() for _ in FIRST_P]
        return [
            (
                float(f"{trial.suggest_float('p', *P_RANGE, log=True):.2g}"),
                float(f"{trial.suggest_float('weight_decay', *WEIGHT_DECAY_RANGE, log=True):.2g}"),
            )
            for trial in self._asked
        ]

    def learn(self, trials: Sequence[Trial]) -> None:
        for asked, trial in zip(self._asked, trials, strict=True):
            if trial.nll is None:
                self._study.tell(asked, state=self._failed)
            else:
                self._study.tell(asked, trial.nll)


def cross_validate(
    config: MLPConfig,
    data: Split,
    folds: Sequence[Fold],
    options: TrainingOptions,
    proposals: Sequence[tuple[float, float]],
) -> list[tuple[float | None, Noise | None]]:
    """For each p and weight decay `nll` and `noise` as in `Trial`, the judging rows of all folds
    taken as one. Every fold of every proposal is fitted, in one stack."""
    members = [Member(fold.training, *proposal) for proposal in proposals for fold in folds]
    networks = fit_stack(config, data, members, options)
    truth = data.y[torch.cat([fold.judging for fold in folds])].numpy()
    scores: list[tuple[float | None, Noise | None]] = []
    for first in range(0, len(networks), len(folds)):
        raw = _draw(networks[first : first + len(folds)], data, folds)
        if not np.isfinite(raw).all():
            scores.append((None, None))
        elif config.head == "classification":
            scores.append((classification_errors(truth, softmax(raw).mean(axis=0))["nll"], None))
        else:
            noise = fit_noise(raw, truth.astype(np.float64))
            scores.append((noise.nll, noise))
    return scores


def _draw(networks: Sequence[MLP], data: Split, folds: Sequence[Fold]) -> Array:
    """Raw outputs (T, N, K), each fold's judging rows by the network that did not see them."""
    drawn = [
        sample(make_plan(network), data.x[fold.judging], seed=SEED, n_samples=N_SAMPLES)
        for network, fold in zip(networks, folds, strict=True)
    ]
    return torch.cat(drawn, dim=1).double().numpy()


def _read(record: Path | None) -> list[Trial]:
    if record is None or not record.exists():
        return []
    return [
        Trial(**fields | {"noise": Noise(**fields["noise"]) if fields["noise"] else None})
        for fields in json.loads(record.read_text())
    ]


def _write(record: Path | None, trials: Sequence[Trial]) -> None:
    """Replaces the file at once, so that a crash leaves the old one or the new."""
    if record is None:
        return
    partial = record.with_name(record.name + ".partial")
    partial.write_text(json.dumps([asdict(trial) for trial in trials]))
    partial.replace(record)

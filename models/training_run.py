"""The moving parts of a fit: one epoch after another, and what is best so far."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.adamw import AdamW
from models.errors import TrainingError
from models.flat import flatten, flatten_gradients
from models.mlp import MLP, MLPConfig
from models.objective import Objective
from models.training_masks import TrainingMasks
from models.written_gradient import WrittenGradient, covers

VALIDATION_BATCH = 8192
# Rows that are put into the order of an epoch at once.
ORDERED_ROWS = 2**14


@dataclass(frozen=True)
class TrainingOptions:
    """How to fit. None for `epochs` or `batch_size` lets the number of rows decide.

    `max_norm` bounds the length of each hidden unit's incoming weight vector (Srivastava
    et al. 2014, section 5.1), `gradient_clip` that of the whole gradient. `label_smoothing`
    is the share of a row's label that training spreads evenly over all classes, against
    overconfidence (Szegedy et al. 2016, section 7); losses are reported without it. Patience
    counts epochs without a better validation loss. What is validated and kept is the running
    mean of the weights, which remembers `averaging` of itself at each step (Polyak & Juditsky
    1992, in its exponential form). To `keep` the last epoch, not the best, is to train for all
    epochs whatever the validation loss: so a network can have every row for training.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    schedule: Literal["cosine", "plateau"] = "cosine"
    max_norm: float | None = None
    gradient_clip: float | None = 5.0
    early_stopping_patience: int = 50
    class_weights: Literal["balanced"] | None = None
    label_smoothing: float = 0.01
    averaging: float = 0.998
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    device: str = "cpu"

    def resolved(self, n_rows: int) -> TrainingOptions:
        """The same with `epochs` and `batch_size` filled in for so many training rows."""
        batch_size = self.batch_size or _default_batch_size(n_rows)
        epochs = self.epochs or _default_epochs(n_rows, batch_size)
        return TrainingOptions(**asdict(self) | {"batch_size": batch_size, "epochs": epochs})


def _default_batch_size(n_rows: int) -> int:
    return 32 if n_rows < 2_000 else 128 if n_rows < 20_000 else 256


def _default_epochs(n_rows: int, batch_size: int) -> int:
    steps_per_epoch = math.ceil(n_rows / batch_size)
    return min(300, max(30, 10_000 // steps_per_epoch))


@dataclass(frozen=True)
class Split:
    """Rows of one split: inputs (N, D) float32; targets (N,), standardised float32 or int64
    positions of classes."""

    x: Tensor
    y: Tensor

    def to(self, device: str | torch.device) -> Split:
        return Split(self.x.to(device), self.y.to(device))

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed. Losses are mean squared errors of the standardised target, or
    cross-entropies in nats; the training loss is met with dropout on, the validation loss off."""

    epoch: int
    epochs: int
    training_loss: float
    validation_loss: float
    learning_rate: float
    is_best: bool


@dataclass
class State:
    """Where a run stands, as plain values."""

    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    learning_rate: float = 0.0
    steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """The moving parts of one fit: network, running mean, best weights, optimiser, state."""

    def __init__(
        self, config: MLPConfig, training: Split, validation: Split, options: TrainingOptions
    ) -> None:
        self.options = options
        self.training = training
        self.validation = validation
        self.network = MLP(config).to(training.x.device)
        self.average = copy.deepcopy(self.network)
        self.best = copy.deepcopy(self.network)
        self.state = State(learning_rate=options.learning_rate)
        self._weights = flatten(self.network.parameters())
        self._gradients = flatten_gradients(self.network.parameters())
        self._average_weights = flatten(self.average.parameters())
        n_decayed = sum(parameter.numel() for parameter in self.network.linears.parameters())
        # Concrete dropout's log odds come last: decay would pull them to zero, which is p = 1/2.
        self.optimiser = AdamW(
            self._weights,
            self._gradients,
            self._average_weights,
            n_decayed,
            options.weight_decay,
            options.gradient_clip,
        )
        assert options.batch_size is not None
        self._masks = TrainingMasks(config, options.batch_size, training.x.device, options.seed)
        self._put_gradients = self._make_objective()

    def _make_objective(self) -> Objective | WrittenGradient:
        options, class_weights = self.options, self._balance()
        if covers(self.network):
            assert options.batch_size is not None
            return WrittenGradient(
                self.network,
                self._masks,
                options.batch_size,
                options.label_smoothing,
                class_weights,
            )
        return Objective(self.network, len(self.training), options.label_smoothing, class_weights)

    @property
    def is_over(self) -> bool:
        """No epochs left, or no patience."""
        assert self.options.epochs is not None
        stalled = self.state.epoch - self.state.best_epoch
        has_patience = stalled < self.options.early_stopping_patience
        return self.state.epoch >= self.options.epochs or not (
            has_patience or self.options.keep == "last"
        )

    @property
    def kept(self) -> tuple[MLP, int]:
        """The network to keep so far, and its epoch."""
        if self.options.keep == "last":
            return self.average, self.state.epoch
        return self.best, self.state.best_epoch

    def train_epoch(self) -> Epoch:
        """One pass over the training rows in a new order, then a look at the validation rows.

        Raises:
            TrainingError: a loss is not a number.
        """
        self._set_learning_rate()
        self.network.train()
        self._masks.begin_epoch(self.state.epoch)
        total = torch.zeros((), device=self.training.x.device)
        for x, y in self._batches():
            loss = self._put_gradients(x, y)
            self._move()
            total.add_(loss, alpha=len(x))
        return self._close_epoch(total.item() / len(self.training))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every training row once, in a new order."""
        size = self.options.batch_size
        assert size is not None
        order = torch.randperm(len(self.training), device=self.training.x.device)
        for rows in torch.split(order, max(size, ORDERED_ROWS // size * size)):
            x, y = self.training.x[rows], self.training.y[rows]
            yield from zip(torch.split(x, size), torch.split(y, size), strict=True)

    @torch.no_grad()
    def _move(self) -> None:
        """One step of the weights, and of their running mean; young, that is the plain mean of what
        it has seen."""
        self.state.steps += 1
        averaging = max(1.0 - self.options.averaging, 1.0 / self.state.steps)
        if self.options.max_norm is None:
            self.optimiser.step(self.state.learning_rate, averaging)
            return
        self.optimiser.step(self.state.learning_rate)
        for linear in self.network.linears[:-1]:
            weight = cast("Tensor", linear.weight)
            weight.copy_(weight.renorm(2, 0, self.options.max_norm))
        self._average_weights.lerp_(self._weights, averaging)

    def _balance(self) -> Tensor | None:
        if self.options.class_weights is None or self.network.config.head != "classification":
            return None
        counts = torch.bincount(self.training.y, minlength=self.network.config.out_features)
        return len(self.training) / (len(counts) * counts.clamp(min=1).float())

    def _set_learning_rate(self) -> None:
        rate = self.state.learning_rate
        if self.options.schedule == "cosine":
            assert self.options.epochs is not None
            done = self.state.epoch / self.options.epochs
            rate = 0.5 * self.options.learning_rate * (1.0 + math.cos(math.pi * done))
        else:
            stalled = self.state.epoch - self.state.best_epoch
            if stalled and stalled % max(1, self.options.early_stopping_patience // 4) == 0:
                rate *= 0.5
        self.state.learning_rate = rate

    @torch.no_grad()
    def _validation_loss(self) -> float:
        self.average.eval()
        total = 0.0
        batches = zip(
            torch.split(self.validation.x, VALIDATION_BATCH),
            torch.split(self.validation.y, VALIDATION_BATCH),
            strict=True,
        )
        for x, y in batches:
            outputs = self.average(x)
            if self.network.config.head == "classification":
                total += F.cross_entropy(outputs, y, reduction="sum").item()
            else:
                total += (outputs[:, 0] - y).square().sum().item()
        return total / len(self.validation)

    def _close_epoch(self, training_loss: float) -> Epoch:
        validation_loss = self._validation_loss()
        if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
            raise TrainingError(
                "diverged",
                f"the loss became {training_loss} in epoch {self.state.epoch + 1}: try a lower "
                f"learning_rate than {self.options.learning_rate:g}, or a gradient_clip or "
                "max_norm, and look for extreme values in the data",
            )
        self.state.epoch += 1
        is_best = validation_loss < self.state.best_loss
        if is_best:
            self.state.best_loss = validation_loss
            self.state.best_epoch = self.state.epoch
            self.best.load_state_dict(self.average.state_dict())
        assert self.options.epochs is not None
        report = Epoch(
            self.state.epoch,
            self.options.epochs,
            training_loss,
            validation_loss,
            self.state.learning_rate,
            is_best,
        )
        self.state.history.append(asdict(report))
        return report

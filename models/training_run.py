"""The moving parts of a fit: one epoch after another, and what is best so far."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.dropout import ConcreteDropout
from models.errors import TrainingError
from models.mlp import LOG_VARIANCE_RANGE, MLP, MLPConfig

# Length scale of Concrete dropout's prior on the weights (Gal et al. 2017, section 3).
CONCRETE_LENGTH_SCALE = 1e-2
VALIDATION_BATCH = 8192


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


def concrete_penalty(network: MLP, n_rows: int) -> Tensor | float:
    """What Concrete dropout adds to the mean loss of so many training rows; 0 without it.

    The divergence of the weights' distribution from their prior, for each row. A squared
    error is twice the negative log-likelihood of noise of variance 1, a cross-entropy is the
    negative log-likelihood itself: hence the 2 of one and the 1 of the other (Gal, Hron &
    Kendall 2017, equations 1 to 4, and the notes in the authors' code).
    """
    strength = (2.0 if network.config.head == "regression" else 1.0) / n_rows
    penalties = [
        dropout.regulariser(
            cast("Tensor", linear.weight), strength * CONCRETE_LENGTH_SCALE**2 / 2.0, strength
        )
        for dropout, linear in zip(network.dropouts, network.linears, strict=True)
        if isinstance(dropout, ConcreteDropout) and 0.0 < dropout.initial_p < 1.0
    ]
    return sum(penalties)


def _parameter_groups(network: MLP) -> list[dict[str, Any]]:
    """Weights and biases, and apart from them Concrete dropout's log odds: decay would pull
    these to zero, which is p = 1/2."""
    log_odds = [d.p_logit for d in network.dropouts if isinstance(d, ConcreteDropout)]
    others = [*network.linears.parameters()]
    return [{"params": others}, {"params": log_odds, "weight_decay": 0.0}]


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
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.network),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.state = State(learning_rate=options.learning_rate)
        self._weights = [parameter.detach() for parameter in self.network.parameters()]
        self._average_weights = [parameter.detach() for parameter in self.average.parameters()]
        self._class_weights = self._balance()

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
        assert self.options.batch_size is not None
        self._set_learning_rate()
        self.network.train()
        order = torch.randperm(len(self.training), device=self.training.x.device)
        total = torch.zeros((), device=self.training.x.device)
        for rows in torch.split(order, self.options.batch_size):
            self.optimiser.zero_grad(set_to_none=True)
            loss, objective = self._losses(self.training.x[rows], self.training.y[rows])
            objective.backward()  # type: ignore[no-untyped-call]
            if self.options.gradient_clip is not None:
                parameters = self.network.parameters()
                torch.nn.utils.clip_grad_norm_(parameters, self.options.gradient_clip)
            self.optimiser.step()
            self._constrain()
            self._follow()
            total += loss.detach() * len(rows)
        return self._close_epoch(total.item() / len(self.training))

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to report, and the objective to descend.

        Regression trains the mean by squared error alone. The noise variance is fitted by
        likelihood to the residuals, its gradient stopped before mean and hidden layers, so
        that no row is given up as noise (Stirn et al. 2023, "Faithful heteroscedastic
        regression").
        """
        features = self.network.features(x)
        last = self.network.linears[-1]
        if self.network.config.head == "classification":
            logits = last(features)
            loss, smoothed = (
                self._cross_entropy(logits, y, share)
                for share in (0.0, self.options.label_smoothing)
            )
            return loss, smoothed + concrete_penalty(self.network, len(self.training))
        n_outputs = self.network.config.out_features
        mean = last(features)[:, 0]
        log_variance = last(features.detach())[:, n_outputs].clamp(*LOG_VARIANCE_RANGE)
        squared = (y - mean).square()
        noise_loss = (log_variance + squared.detach() * torch.exp(-log_variance)).mean()
        loss = squared.mean()
        penalty = concrete_penalty(self.network, len(self.training))
        return loss, loss + 0.5 * noise_loss + penalty

    def _cross_entropy(self, logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
        """The mean over rows, each with its class's weight; torch's own would give a smoothed
        label's other classes their weights, too."""
        losses = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
        if self._class_weights is None:
            return losses.mean()
        weights = self._class_weights[y]
        return (weights * losses).sum() / weights.sum()

    @torch.no_grad()
    def _constrain(self) -> None:
        if self.options.max_norm is not None:
            for linear in self.network.linears[:-1]:
                weight = cast("Tensor", linear.weight)
                weight.copy_(weight.renorm(2, 0, self.options.max_norm))

    def _follow(self) -> None:
        """Moves the running mean; young, it is the plain mean of what it has seen."""
        self.state.steps += 1
        step = max(1.0 - self.options.averaging, 1.0 / self.state.steps)
        torch._foreach_lerp_(self._average_weights, self._weights, step)

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
        for group in self.optimiser.param_groups:
            group["lr"] = rate

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

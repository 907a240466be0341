"""What training descends, and the loss that it reports beside it, by torch's automatic gradient."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.dropout import ConcreteDropout
from models.mlp import LOG_VARIANCE_RANGE, MLP

# Length scale of Concrete dropout's prior on the weights (Gal et al. 2017, section 3).
CONCRETE_LENGTH_SCALE = 1e-2


class Objective:
    """The loss of a batch by a network's own modules: whatever they do, torch differentiates it.

    `class_weights` (C,) is what a row of each class counts, all alike without it.
    """

    def __init__(
        self, network: MLP, n_rows: int, label_smoothing: float, class_weights: Tensor | None
    ) -> None:
        self._network = network
        self._n_rows = n_rows
        self._label_smoothing = label_smoothing
        self._class_weights = class_weights

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss to report; puts the gradients of what is to descend into the parameters'."""
        for parameter in self._network.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss, objective = self._losses(x, y)
        objective.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to report, and the objective to descend.

        Regression trains the mean by squared error alone. The noise variance is fitted by
        likelihood to the residuals, its gradient stopped before mean and hidden layers, so
        that no row is given up as noise (Stirn et al. 2023, "Faithful heteroscedastic
        regression").
        """
        features = self._network.features(x)
        last = self._network.linears[-1]
        penalty = concrete_penalty(self._network, self._n_rows)
        if self._network.config.head == "classification":
            logits = last(features)
            loss, smoothed = (
                self._cross_entropy(logits, y, share) for share in (0.0, self._label_smoothing)
            )
            return loss, smoothed + penalty
        n_outputs = self._network.config.out_features
        mean = last(features)[:, 0]
        log_variance = last(features.detach())[:, n_outputs].clamp(*LOG_VARIANCE_RANGE)
        squared = (y - mean).square()
        noise_loss = (log_variance + squared.detach() * torch.exp(-log_variance)).mean()
        loss = squared.mean()
        return loss, loss + 0.5 * noise_loss + penalty

    def _cross_entropy(self, logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
        """The mean over rows, each with its class's weight; torch's own would give a smoothed
        label's other classes their weights, too."""
        losses = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
        if self._class_weights is None:
            return losses.mean()
        weights = self._class_weights[y]
        return (weights * losses).sum() / weights.sum()


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

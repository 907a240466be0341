"""The gradient of the usual network, ReLU and Bernoulli dropout, written out.

Memory is kept from step to step, and little of it is touched: a dropped unit is known by its
zero, so that neither masks nor what they were applied to are kept. Everything else goes by
`models.objective`, which this agrees with.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from models import kernel
from models.kernel.training import squared_error
from models.mlp import LOG_VARIANCE_RANGE, MLP
from models.training_masks import TrainingMasks


class WrittenGradient:
    """Loss and gradients of batches of at most that size, of a network that `covers` says yes to.

    `class_weights` (C,) is what a row of each class counts, all alike without it.
    """

    def __init__(
        self,
        network: MLP,
        masks: TrainingMasks,
        batch_size: int,
        label_smoothing: float,
        class_weights: Tensor | None,
    ) -> None:
        self._config = config = network.config
        self._masks = masks
        self._label_smoothing = label_smoothing
        self._class_weights = class_weights
        self._weights = [cast("torch.nn.Parameter", linear.weight) for linear in network.linears]
        self._biases = [cast("torch.nn.Parameter", linear.bias) for linear in network.linears]

        def room(size: int) -> Tensor:
            return self._weights[0].detach().new_empty((batch_size, size))

        self._outputs = [room(size) for size in (*config.hidden, config.raw_features)]
        self._gradients = [room(size) for size in config.hidden]

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss to report; puts the gradients of what is to descend into the parameters'."""
        n, last = len(x), len(self._weights) - 1
        reads = [self._masks.drop(0, x.clone()) if self._masks.scales[0] != 1.0 else x]
        for layer in range(last):
            reads.append(self._masks.drop(layer + 1, self._sums(layer, reads[layer]).relu_()))
        is_regression = self._config.head == "regression"
        head = self._squared_error if is_regression else self._cross_entropy
        loss, gradient = head(self._sums(last, reads[last]), y)
        self._put(last, gradient, reads[last])
        # Of a regression's outputs the noise variances stop before the hidden layers.
        n_outputs = self._config.out_features
        gradient, weight = gradient[:, :n_outputs], self._weights[last][:n_outputs]
        for layer in range(last - 1, -1, -1):
            scale, out = self._masks.scales[layer + 1], self._gradients[layer][:n]
            gradient = torch.addmm(out, gradient, weight, beta=0.0, alpha=scale, out=out)
            # Zero where a unit was dropped or at rest.
            torch.ops.aten.threshold_backward.grad_input(
                gradient, reads[layer + 1], 0.0, grad_input=gradient
            )
            self._put(layer, gradient, reads[layer])
            weight = self._weights[layer]
        return loss

    def _sums(self, layer: int, read: Tensor) -> Tensor:
        """What a linear layer makes of what it reads."""
        out = self._outputs[layer][: len(read)]
        return torch.addmm(self._biases[layer], read, self._weights[layer].t(), out=out)

    def _put(self, layer: int, gradient: Tensor, read: Tensor) -> None:
        """Weight and bias gradients of a layer, from that of its sums and from what it read."""
        torch.mm(gradient.t(), read, out=cast("Tensor", self._weights[layer].grad))
        torch.sum(gradient, 0, out=cast("Tensor", self._biases[layer].grad))

    def _squared_error(self, raw: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error, and the gradient of it and of half the noise's likelihood."""
        n_outputs = self._config.out_features
        if kernel.is_available() and raw.dtype == torch.float32 and not raw.is_cuda:
            gradient = torch.empty_like(raw)
            return raw.new_tensor(squared_error(raw, y, gradient)), gradient
        gradient = torch.zeros_like(raw)
        error = raw[:, 0] - y
        squared = error.square()
        torch.mul(error, 2.0 / len(y), out=gradient[:, 0])
        log_variance = raw[:, n_outputs]
        bounded = log_variance.clamp(*LOG_VARIANCE_RANGE)
        is_within = log_variance == bounded
        slope = bounded.neg_().exp_().mul_(squared).neg_().add_(1.0).mul_(0.5 / len(y))
        torch.mul(slope, is_within, out=gradient[:, n_outputs])
        return squared.mean(), gradient

    def _cross_entropy(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy, and the gradient of that of smoothed labels."""
        logs = logits.log_softmax(dim=1)
        losses = logs.gather(1, y[:, None]).neg_()
        smoothing = self._label_smoothing
        gradient = logs.exp().sub_(smoothing / logits.shape[1])
        gradient.scatter_add_(1, y[:, None], torch.full_like(losses, smoothing - 1.0))
        if self._class_weights is None:
            return losses.mean(), gradient.div_(len(y))
        weights = self._class_weights[y][:, None]
        weights = weights / weights.sum()
        return (weights * losses).sum(), gradient.mul_(weights)


def covers(network: MLP) -> bool:
    """Whether the gradient of that network is written out here."""
    return network.config.dropout == "bernoulli" and network.config.activation == "relu"

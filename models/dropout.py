"""Dropout layers: noise while training, nothing at evaluation.

All layers are *inverted*: what survives is scaled by 1/(1-p) while dropping, so that
the expectation is unchanged and evaluation needs no rescaling. `p` is the probability
that a unit is **dropped**; Srivastava et al. (2014) write p for the probability that
it is kept.

Masks come from torch's own generator, one independent draw for every element. Serving
draws its masks elsewhere (`models.masks`) and never calls `train()` or `eval()`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Concrete dropout's p keeps this far from 0 and 1, in log odds (3e-7): float32 still tells 1 - p
# from 0 there, and the logarithms and quotients of its formulas are finite.
LARGEST_LOGIT = 15.0


def check_probability(p: float) -> float:
    """The drop probability itself.

    Raises:
        ValueError: p is not a number between 0 and 1.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return p


def inverted_scale(p: float) -> float:
    """1/(1-p), the factor of a survivor; 0 at p = 1, where nothing survives."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


def draw_keep(like: Tensor, p: float) -> Tensor:
    """A boolean tensor of the shape of `like`, True with probability 1-p.

    On the CPU the draws are those that `torch.nn.Dropout` would make from the same seed.
    """
    return torch.empty_like(like, requires_grad=False).bernoulli_(1.0 - p).to(torch.bool)


class Dropout(nn.Module):
    """Zeroes each element with probability p and scales the others by 1/(1-p).

    A dropped element is selected away, not multiplied by zero: an infinite or NaN
    input under a dropped unit gives 0, in the output and in the gradient.
    Source: Srivastava et al. 2014, section 4 (their p is the probability of keeping).

    Raises:
        ValueError: p outside [0, 1].
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = check_probability(p)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        dropped = ~draw_keep(x, self.p)
        scale = inverted_scale(self.p)
        if self.inplace:
            return x.masked_fill_(dropped, 0.0).mul_(scale)
        return x.masked_fill(dropped, 0.0).mul(scale)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace=True" if self.inplace else f"p={self.p}"


class GaussianDropout(nn.Module):
    """Multiplies each element by noise from N(1, p/(1-p)): the mean and variance of a
    Bernoulli mask with drop probability p, without its zeros.

    At p = 1, where that variance has no bound, the output is zero as for `Dropout`.
    Source: Srivastava et al. 2014, section 10.

    Raises:
        ValueError: p outside [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.p == 1.0:
            return torch.zeros_like(x)
        noise = torch.randn_like(x, requires_grad=False)
        return x * noise.mul_(math.sqrt(self.p / (1.0 - self.p))).add_(1.0)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ConcreteDropout(nn.Module):
    """Dropout whose p is learned: the mask is a relaxed Bernoulli draw through which
    the gradient reaches p.

    `p` is the initial probability; the learned one is read from the property of that
    name and stays between 3e-7 and 1 - 3e-7. Add `regulariser` to the loss, or p drifts to
    zero; keep weight decay off `p_logit`, or p drifts to 1/2.
    Source: Gal, Hron & Kendall 2017, equations 2 to 5.

    Raises:
        ValueError: p outside [0, 1].
    """

    def __init__(self, p: float = 0.1, temperature: float = 0.1) -> None:
        super().__init__()
        self.initial_p = check_probability(p)
        self.p_logit = nn.Parameter(torch.tensor(math.log(p / (1.0 - p)) if 0.0 < p < 1.0 else 0.0))
        self.temperature = temperature

    @property
    def p(self) -> float:
        """The drop probability learned so far; an initial 0 or 1 stays as it is."""
        if self.initial_p in (0.0, 1.0):
            return self.initial_p
        return torch.sigmoid(self._logit().detach().double()).item()

    def _logit(self) -> Tensor:
        return self.p_logit.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.initial_p == 0.0:
            return x
        if self.initial_p == 1.0:
            return torch.zeros_like(x)
        u = torch.rand(x.shape, device=x.device, dtype=self.p_logit.dtype)
        u = u.clamp_(2.0**-25, 1.0 - 2.0**-24)
        logit = self._logit()
        kept = torch.sigmoid(-(logit + torch.logit(u)) / self.temperature)
        return x * (kept / torch.sigmoid(-logit)).to(x.dtype)

    def regulariser(
        self, weight: Tensor, weight_strength: float, dropout_strength: float
    ) -> Tensor:
        """The penalty on p and on the weights that read the dropped units, a scalar.

        `weight` is (out, in) with one column for each dropped unit. It is the paper's
        divergence from the prior, for N training rows and prior length scale l, at the
        strengths l^2/(2N) and 1/N beside a mean negative log-likelihood such as the
        cross-entropy, and twice these beside a mean squared error.
        """
        logit = self._logit()
        p, kept = torch.sigmoid(logit), torch.sigmoid(-logit)
        negative_entropy = p * F.logsigmoid(logit) + kept * F.logsigmoid(-logit)
        return (
            weight_strength * weight.square().sum() / kept
            + dropout_strength * weight.shape[-1] * negative_entropy
        )

    def extra_repr(self) -> str:
        return f"p={self.p:.4g}, temperature={self.temperature}"


class DropConnectLinear(nn.Linear):
    """A linear layer that zeroes each *weight* with probability p and scales the others
    by 1/(1-p); the bias is never dropped.

    One weight mask serves all rows of a call, so that a call is one thinned network. At
    p = 1 the bias is all that is left, whatever the input. Below that an infinite or NaN
    input reaches its row's outputs through dropped weights too: 0 · ∞ is NaN in a product.
    Source: Wan et al. 2013, section 3.

    Raises:
        ValueError: p outside [0, 1].
    """

    def __init__(self, in_features: int, out_features: int, p: float, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.p = check_probability(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return super().forward(x)
        if self.p == 1.0:
            x = x.masked_fill(torch.ones((), dtype=torch.bool, device=x.device), 0.0)
        dropped = ~draw_keep(self.weight, self.p)
        weight = self.weight.masked_fill(dropped, 0.0).mul(inverted_scale(self.p))
        return F.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"

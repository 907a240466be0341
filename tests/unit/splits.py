"""A small regression, a classification made of it, and a network for them."""

import torch

from models import MLPConfig
from models.training_run import Split

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")


def regression(n: int = 400) -> tuple[Split, Split]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(n, generator=generator)
    y = (y - y.mean()) / y.std()
    return Split(x[50:], y[50:]), Split(x[:50], y[:50])


def classification(n: int = 400) -> tuple[Split, Split]:
    training, validation = regression(n)
    return (
        Split(training.x, (training.y > 0.8).long()),
        Split(validation.x, (validation.y > 0.8).long()),
    )


SMALL = MLPConfig(3, 1, (32, 32))

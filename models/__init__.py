"""Dropout networks, trained, calibrated and sampled: the mathematics behind the service.

What stands here is imported when it is first asked for: processes that only read tables, such
as the training worker, never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.artifact import Artifact, load_artifact, save_artifact
    from models.dropout import ConcreteDropout, DropConnectLinear, Dropout, GaussianDropout
    from models.mlp import MLP, MLPConfig

_HOMES = {
    "Artifact": "artifact",
    "load_artifact": "artifact",
    "save_artifact": "artifact",
    "ConcreteDropout": "dropout",
    "DropConnectLinear": "dropout",
    "Dropout": "dropout",
    "GaussianDropout": "dropout",
    "MLP": "mlp",
    "MLPConfig": "mlp",
}

__all__ = [
    "MLP",
    "Artifact",
    "ConcreteDropout",
    "DropConnectLinear",
    "Dropout",
    "GaussianDropout",
    "MLPConfig",
    "load_artifact",
    "save_artifact",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

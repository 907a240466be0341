"""Dropout networks, trained, calibrated and sampled: the mathematics behind the service."""

from models.artifact import Artifact, load_artifact, save_artifact
from models.dropout import ConcreteDropout, DropConnectLinear, Dropout, GaussianDropout
from models.mlp import MLP, MLPConfig

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

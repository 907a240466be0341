"""What a training job asks for, as a recipe to compute by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.device import resolve_device
from models.recipe import Recipe
from models.training_run import TrainingOptions


def make_recipe(request: Mapping[str, Any], device: str) -> Recipe:
    """The recipe of a job's request, to be followed on that device."""
    chosen = request["hyperparameters"]
    dropout = chosen["dropout"]
    p = dropout["p"]
    training = TrainingOptions(
        **{key: chosen[key] for key in chosen if key not in ("hidden", "activation", "dropout")},
        seed=request["seed"],
        device=str(resolve_device(device)),
    )
    return Recipe(
        target=request["target"],
        task=request["task"],
        hidden=tuple(chosen["hidden"]),
        activation=chosen["activation"],
        dropout=dropout["kind"],
        p=tuple(p) if isinstance(p, list) else p,
        input_p=dropout["input_p"],
        training=training,
        validation_fraction=request["validation_fraction"],
        calibration_fraction=request["calibration_fraction"],
        calibration=request.get("calibration", "auto"),
        keep_excerpt=request.get("keep_excerpt", True),
        seed=request["seed"],
    )

"""What a model's tensors are, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.features import CategoryFeature, Feature
from service.loading import LoadedVersion
from service.open_inference.requests import TABLE
from service.open_inference.rows import positions_of

PLATFORM = "dropcast_mlp"
EXTENSIONS = ("binary_tensor_data", "model_repository(index)", "parameters")

Names = tuple[str, ...]


def output_names(task: str, mode: str) -> tuple[Names, Names]:
    """A mode's outputs: those given if none is asked for, and those given by name only."""
    is_class = task == "classification"
    if mode == "eval":
        return ("output", "label") if is_class else ("output",), ()
    if is_class:
        return ("mean", "std"), ("samples", "entropy", "mutual_information", "label", "output")
    return ("mean", "std", "quantiles"), ("samples", "output")


def describe_model(loaded: LoadedVersion, versions: Sequence[int]) -> dict[str, Any]:
    """The answer of a model's metadata."""
    target = loaded.artifact.schema.target
    return {
        "name": loaded.model,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": _describe_inputs(loaded),
        "outputs": _describe_outputs(loaded),
        "parameters": {
            "version": str(loaded.version),
            "task": target.task,
            "target": target.name,
            "has_mc_dropout": loaded.plan.is_stochastic,
        },
    }


def _describe_inputs(loaded: LoadedVersion) -> list[dict[str, Any]]:
    features = loaded.artifact.schema.features
    table = {
        "name": TABLE,
        "datatype": "FP32",
        "shape": [-1, len(features)],
        "parameters": {"columns": [feature.name for feature in features]},
    }
    return [table, *[_describe_feature(feature) for feature in features]]


def _describe_feature(feature: Feature) -> dict[str, Any]:
    parameters = {"missing_allowed": feature.describe()["missing_allowed"]}
    if isinstance(feature, CategoryFeature):
        parameters["categories"] = positions_of(feature)
    return {
        "name": feature.name,
        "datatype": "BYTES" if "categories" in parameters else "FP64",
        "shape": [-1],
        "parameters": parameters,
    }


def _describe_outputs(loaded: LoadedVersion) -> list[dict[str, Any]]:
    target = loaded.artifact.schema.target
    width = target.out_features
    shapes = {
        "output": [-1, width],
        "label": [-1],
        "mean": [-1, width],
        "std": [-1, width],
        "quantiles": [-1, -1, width],
        "samples": [-1, -1, width],
        "entropy": [-1],
        "mutual_information": [-1],
    }
    described: dict[str, dict[str, Any]] = {}
    for mode in ("eval", "mc_dropout") if loaded.plan.is_stochastic else ("eval",):
        by_default, by_name = output_names(target.task, mode)
        for name in (*by_default, *by_name):
            parameters: dict[str, Any] = {"mode": mode, "by_name_only": name in by_name}
            if target.labels and shapes[name][-1] == width and len(shapes[name]) > 1:
                parameters["labels"] = list(target.labels)
            datatype = "BYTES" if name == "label" else "FP32"
            described.setdefault(
                name,
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": shapes[name],
                    "parameters": parameters,
                },
            )
    return list(described.values())

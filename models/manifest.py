"""Whether the JSON part of an artifact holds what its fields are declared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from models.calibration import Calibration, CalibrationTable
from models.features import LARGEST_VALUE, SMALLEST_STD, CategoryFeature, NumberFeature
from models.mlp import MLPConfig
from models.table import Schema, Target

# Besides the schema, the network and the calibration.
OWN_FIELDS = {"created_at": str, "metrics": Mapping[str, Any], "provenance": Mapping[str, Any]}


# What older releases did not write.
OPTIONAL_FIELDS = {"report": Mapping[str, Any]}


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Nothing, if each value is of the type that its field is declared with, and its scales are
    such that can be computed with.

    Raises:
        ValueError: with the field that is not.
    """
    schema = manifest["schema"]
    kinds = {"number": NumberFeature, "category": CategoryFeature}
    _check_values(OWN_FIELDS, {name: manifest[name] for name in OWN_FIELDS})
    _check_values(OPTIONAL_FIELDS, manifest)
    _check_fields(Schema, {"ignored": schema["ignored"]})
    _check_fields(Target, schema["target"])
    _check_fields(MLPConfig, manifest["network"])
    for fields in schema["features"]:
        _check_fields(kinds[fields["type"]], fields)
        _check_scale(fields)
    _check_scale(schema["target"])
    for threshold in manifest["calibration"]["thresholds"].values():
        _check_fields(Calibration, {"threshold": threshold})
    _check_fields(CalibrationTable, manifest["calibration"])


def _check_fields(kind: type, values: Mapping[str, Any]) -> None:
    _check_values(get_type_hints(kind), values)


def _check_values(hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} in the manifest is of the wrong type")


def _check_scale(fields: Mapping[str, Any]) -> None:
    for name in ("mean", "std", "minimum", "maximum", "fill"):
        value = fields.get(name)
        if value is not None and abs(value) > LARGEST_VALUE:
            raise ValueError(f"{name} in the manifest is beyond ±{LARGEST_VALUE:g}")
    if fields.get("std", 1.0) < SMALLEST_STD:
        raise ValueError(f"std in the manifest is below {SMALLEST_STD:g}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value can stand for the type; a tuple is written as an array."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or origin is Literal:
        return True  # MLPConfig and Calibration look at their words themselves
    if origin is UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return type(value) is list and all(_fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return type(value) is dict and all(_fits(v, arguments[1]) for v in value.values())
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint

"""What `/docs` shows of bodies that routes read by themselves, and of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import schemas
from service.access import ANYONE, need_of

# The README's row.
_ROW = {
    "cement": 540,
    "blast_furnace_slag": 0,
    "fly_ash": 0,
    "water": 162,
    "superplasticizer": 2.5,
    "coarse_aggregate": 1040,
    "fine_aggregate": 676,
    "age": 28,
}
# Names of what the first start makes: the example datasets, their ids of their bytes, and jobs.
_CONCRETE_DATASET, _PENGUINS_DATASET = "ds_09f0a61ac52e26273ea0", "ds_43c11e378c4ca4f232d8"
# What `/docs` fills in when a route is tried.
EXAMPLES: Mapping[type[BaseModel], Mapping[str, Any]] = {
    schemas.PredictRequest: {"instances": [_ROW]},
    schemas.UncertaintyRequest: {"instances": [_ROW], "n_samples": 100, "seed": 0},
    schemas.DropoutRequest: {"instance": _ROW, "seed": 0},
    schemas.TrainingJobRequest: {
        "model": "my-concrete",
        "dataset": _CONCRETE_DATASET,
        "target": "compressive_strength",
        "hyperparameters": {"dropout": {"kind": "bernoulli", "p": 0.1}, "epochs": 50},
    },
    schemas.AliasRequest: {"version": 1},
    schemas.InferRequest: {
        "inputs": [
            {
                "name": "input",
                "shape": [1, len(_ROW)],
                "datatype": "FP32",
                "data": list(_ROW.values()),
            }
        ],
        "parameters": {"mode": "mc_dropout", "n_samples": 100, "seed": 0},
    },
    schemas.IndexRequest: {"ready": True},
    schemas.FeedbackRequest: {"feedback": [{"request_id": "2cf4e4358a7344a2", "value": 61.2}]},
}

PLACES = {
    "model": "concrete",
    "version": "1",
    "alias": "production",
    "dataset": _CONCRETE_DATASET,
    "job": "job_example_concrete",
}
# What is deleted is not what the other examples need.
_TO_DELETE = PLACES | {"dataset": _PENGUINS_DATASET}

_REFERENCE = "#/components/schemas/{model}"
# Named in `body` and `problems`, which FastAPI does not look into.
_NAMED: tuple[type[BaseModel], ...] = (
    *EXAMPLES,
    schemas.JobEventPage,
    schemas.Problem,
    schemas.InferProblem,
)


def reference(kind: type[BaseModel]) -> dict[str, str]:
    """A schema that points to that type's."""
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


def body(kind: type[BaseModel], *, is_required: bool = True) -> dict[str, Any]:
    """`openapi_extra` for a JSON body of that type."""
    content = {"application/json": {"schema": reference(kind), "example": EXAMPLES[kind]}}
    return {"requestBody": {"required": is_required, "content": content}}


def problems(
    *statuses: int, kind: type[schemas.Problem] = schemas.Problem
) -> dict[int | str, dict[str, Any]]:
    """`responses` for these error statuses."""
    is_own = kind is schemas.Problem
    media_type = "application/problem+json" if is_own else "application/json"
    content = {media_type: {"schema": reference(kind)}}
    return {status: {"description": "Problem details", "content": content} for status in statuses}


# At the door, before any route: no good key, not with this one, too often, too much.
_AT_THE_DOOR = (401, 403, 429, 503)
_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key"},
}


def _add_door(document: dict[str, Any]) -> None:
    """To each operation that may need one, how to show a key, and how it may be refused."""
    document["components"]["securitySchemes"] = _KEY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if need_of(method.upper(), path) is ANYONE:
                continue
            operation["security"] = [{}, *({scheme: []} for scheme in _KEY_SCHEMES)]
            kind = schemas.InferProblem if path.startswith("/v2") else schemas.Problem
            for status, response in problems(*_AT_THE_DOOR, kind=kind).items():
                operation["responses"].setdefault(str(status), response)


def _add_places(document: dict[str, Any]) -> None:
    """To each parameter of a path, the name of something that is there."""
    for operations in document["paths"].values():
        for method, operation in operations.items():
            places = _TO_DELETE if method == "delete" else PLACES
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in places:
                    parameter["example"] = places[parameter["name"]]


def install(app: FastAPI) -> None:
    """Adds the named types to the application's document, when it is first asked for."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        _, definitions = models_json_schema(
            [(kind, "validation") for kind in _NAMED], ref_template=_REFERENCE
        )
        known = document.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in definitions["$defs"].items():
            known.setdefault(name, schema)
        _add_door(document)
        _add_places(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]

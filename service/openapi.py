"""What `/docs` shows of bodies that routes read by themselves, and of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import schemas

_REFERENCE = "#/components/schemas/{model}"
# Named in `body` and `problems`, which FastAPI does not look into.
_NAMED: tuple[type[BaseModel], ...] = (
    schemas.PredictRequest,
    schemas.UncertaintyRequest,
    schemas.DropoutRequest,
    schemas.TrainingJobRequest,
    schemas.AliasRequest,
    schemas.JobEventPage,
    schemas.Problem,
)


def reference(kind: type[BaseModel]) -> dict[str, str]:
    """A schema that points to that type's."""
    return {"$ref": _REFERENCE.format(model=kind.__name__)}


def body(kind: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a JSON body of that type."""
    content = {"application/json": {"schema": reference(kind)}}
    return {"requestBody": {"required": True, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` for these error statuses."""
    content = {"application/problem+json": {"schema": reference(schemas.Problem)}}
    return {status: {"description": "Problem details", "content": content} for status in statuses}


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
        return document

    app.openapi = openapi  # type: ignore[method-assign]

"""Models, versions, aliases."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.schemas.requests import Request


class Card(BaseModel):
    """All there is to say of a version."""

    model: str
    version: int
    task: Literal["regression", "classification"]
    target: str
    created_at: str
    features: list[dict[str, Any]]
    ignored_columns: dict[str, str]
    network: dict[str, Any]
    dropout: dict[str, Any]
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    provenance: dict[str, Any]
    artifact_sha256: str
    promotion: Annotated[
        str | None,
        Field(
            description="Why it went into production when it was made, or not: what it was "
            "compared with, on which rows, and both scores"
        ),
    ] = None
    report: Annotated[
        dict[str, Any] | None,
        Field(
            description="Curves over held-out rows, and the excerpt of training rows if it was "
            "to be kept; only in the answer for one version"
        ),
    ] = None


class Model(BaseModel):
    """A model: its aliases and its versions, newest first."""

    model: str
    object: Literal["model"] = "model"
    task: Literal["regression", "classification"] | None
    created_at: dt.datetime
    aliases: dict[str, int]
    versions: list[Card]


class AliasRequest(Request):
    """Body of `PUT /v1/models/{model}/aliases/{alias}`."""

    version: Annotated[int, Field(ge=1)]


class AliasAnswer(BaseModel):
    """Where an alias points."""

    model: str
    alias: str
    version: int

"""Datasets and what their columns hold."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel


class Column(BaseModel):
    """What a dataset's column holds; `note` says why it would not be used as a feature.

    Of a large file, many different values are not counted but estimated, to about 1 %."""

    name: str
    type: Literal["number", "category", "boolean", "unusable"]
    missing: int
    distinct: int
    distinct_is_exact: bool
    minimum: float | None
    maximum: float | None
    examples: list[str]
    note: str | None


class Dataset(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    format: Literal["csv", "parquet", "ndjson"]
    bytes: int
    sha256: str
    rows: int
    columns: list[Column]
    created_at: dt.datetime

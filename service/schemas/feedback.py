"""`:feedback`: the truth about rows that were answered."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from service.schemas.requests import Request

Outcome = Literal["counted", "duplicate", "unknown"]
RowId = Annotated[str, Field(min_length=1, max_length=128)]


class FeedbackEntry(Request):
    """One row, by the request's id and its place there or by the client's own row id; and what
    turned out to be true: `value` for regression, `label` for classification."""

    request_id: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="`X-Request-Id` of the answer"),
    ] = None
    row: Annotated[int, Field(ge=0, description="Which row of that request, from 0")] = 0
    row_id: Annotated[RowId | None, Field(description="One of the request's `row_ids`")] = None
    value: Annotated[
        float | None, Field(ge=-1e100, le=1e100, description="In the target's unit")
    ] = None
    label: str | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.request_id is None) == (self.row_id is None):
            raise ValueError("give request_id or row_id, one of them")
        if (self.value is None) == (self.label is None):
            raise ValueError("give value or label, one of them")
        return self


class FeedbackRequest(Request):
    """Body of `:feedback`."""

    feedback: Annotated[list[FeedbackEntry], Field(min_length=1, max_length=10_000)]


class FeedbackResponse(BaseModel):
    """What became of each entry, in their order. A row that is told twice counts once; of an
    answer that is not remembered nothing can be learned."""

    model: str
    counted: int
    duplicates: int
    unknown: int
    results: list[Outcome]

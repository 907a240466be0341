"""The shapes that answers of every route share: a page of a list, an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class Page(BaseModel, Generic[T]):
    """One page of a list, newest first; `after` with the last id gives the next one."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    has_more: bool = False


class ProblemError(BaseModel):
    """One fault, and where in the request it is."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """RFC 9457 problem details: the body of every error."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemError] | None = None

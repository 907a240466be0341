"""What every request body has in common, and the kinds of values they share."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import invalid

T = TypeVar("T", bound=BaseModel)

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="1 to 64 letters, digits, dots, dashes, underscores; a letter or digit first",
    ),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Request(BaseModel):
    """A request body: no unknown fields, no silent conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def parse(kind: type[T], body: Any) -> T:
    """The body as that type.

    Raises:
        InvalidError: with the place of each fault.
    """
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False), kind) from None

"""What every request body has in common, and the kinds of values they share."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import InvalidError, invalid

T = TypeVar("T", bound=BaseModel)

MOST_NAMES = 10_000

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
    if isinstance(body, dict):
        _check_size(body, ())
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False), kind) from None


def _check_size(value: dict[str, Any], loc: tuple[str, ...]) -> None:
    """Objects that hold more names than any table has columns; each name would be a fault."""
    if len(value) > MOST_NAMES:
        message = f"{len(value)} names in one object are more than the {MOST_NAMES} allowed"
        raise InvalidError(message, errors=[{"loc": [*loc], "msg": message}])
    for name, inner in value.items():
        if isinstance(inner, dict):
            _check_size(inner, (*loc, name[:64]))

"""Faults in plain words: what pydantic found, and names that are near a wrong one."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

# Listed up to this many, and names shown up to this many characters.
MOST_FAULTS = 100
LONGEST_NAME = 64
MOST_COMPARED = 500

_WHOLE_NUMBER = "a whole number is due"
_NUMBER = "a number is due"
_TRUTH = "true or false is due"
_OBJECT = "an object is due"
_WORDS: Mapping[str, str] = {
    "missing": "is due",
    "extra_forbidden": "is not a field here",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "list_type": "an array is due",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number is due",
    "string_type": "a text is due",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
}
_EXAMPLES: Mapping[str, str] = {"dropout": '{"kind": "bernoulli", "p": 0.1}'}


def describe(faults: Sequence[Any], kind: type[BaseModel] | None = None) -> list[dict[str, Any]]:
    """For each of pydantic's faults its place in the request, and what is wrong there.

    `kind` is the type that the request was read as, if it is one of ours.
    """
    return [
        {
            "loc": [_short(part) for part in fault["loc"] if part != "body"],
            "msg": _message(fault, kind),
        }
        for fault in faults[:MOST_FAULTS]
    ]


def near(name: str, known: Iterable[str]) -> str:
    """`; near it: …` with the known names that look like that one, or nothing."""
    shown = [name[:LONGEST_NAME] for name in itertools.islice(known, MOST_COMPARED)]
    found = difflib.get_close_matches(name[:LONGEST_NAME], shown, cutoff=0.5)
    return f"; near it: {', '.join(found)}" if found else ""


def listed(names: Sequence[str]) -> str:
    """The first of them."""
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(name[:LONGEST_NAME] for name in names[:20]) + more


def _short(part: str | int) -> str | int:
    return part[:LONGEST_NAME] if isinstance(part, str) else part


def _message(fault: Mapping[str, Any], kind: type[BaseModel] | None) -> str:
    loc, what = fault["loc"], fault["type"]
    name = str(loc[-1]) if loc else ""
    holder = _holder(loc, kind)
    fields = holder.model_fields if holder else {}
    if what == "extra_forbidden":
        return _WORDS[what] + near(name, fields)
    if what == "string_pattern_mismatch" and name in fields and fields[name].description:
        return f"has to be {fields[name].description}"
    if _WORDS.get(what) == _OBJECT and name in _EXAMPLES:
        return f"{_OBJECT}, such as {_EXAMPLES[name]}"
    if what in _WORDS:
        return _WORDS[what]
    text = fault["msg"].removeprefix("Value error, ").replace(" after validation", "")
    return re.sub(r"^[A-Z][a-z]+ should ", "has to ", text)


def _holder(loc: Sequence[str | int], kind: type[BaseModel] | None) -> type[BaseModel] | None:
    """The type of the object in which the last part of the place is a field."""
    for part in loc[:-1]:
        field = kind.model_fields.get(str(part)) if kind else None
        inner = field.annotation if field else None
        kind = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return kind

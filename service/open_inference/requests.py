"""Bytes -> what is asked: the JSON part, the binary data behind it, and the parameters."""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from service.envelope import parse_json
from service.errors import InvalidError, MalformedError
from service.open_inference.tensors import Tensor, check_size
from service.schemas import InferInput, InferOutput, InferParameters, InferRequest, parse

HEADER_LENGTH = "Inference-Header-Content-Length"
# The name of the tensor that has a column for each feature.
TABLE = "input"

# Unknown parameters looked at for being nearly named as ours; characters of all quantiles.
MOST_COMPARED = 100
LONGEST_LEVELS = 10_000

_OURS = frozenset(InferParameters.model_fields) - {"return_samples"}


@dataclass(frozen=True)
class Wanted:
    """One request. `inputs` are the tensors, or the raw bytes of the only one; `outputs` the
    names asked for, or None, each with whether it is wanted as bytes."""

    id: str | None
    parameters: InferParameters
    inputs: Sequence[Tensor] | memoryview
    outputs: Mapping[str, bool] | None
    is_binary: bool

    def wants_bytes(self, output: str) -> bool:
        return (self.outputs or {}).get(output, self.is_binary)


def read_request(body: bytes, header_lengths: Sequence[str]) -> Wanted:
    """What a body asks, with the values of its header `Inference-Header-Content-Length`.

    Raises:
        MalformedError: it cannot be cut into JSON and binary data.
        NotJsonError: its JSON part is something else.
        InvalidError: it asks for what there is not, or its tensors contradict themselves.
    """
    length = _header_length(header_lengths, len(body))
    if length == 0 and header_lengths:
        # The extension's raw request: one tensor, its type and shape known from the metadata.
        return Wanted(None, InferParameters(), memoryview(body), None, is_binary=True)
    request = parse(InferRequest, parse_json(body[:length]))
    given = request.parameters or {}
    is_binary = _flag(given, "binary_data_output", ["parameters"])
    outputs = _read_outputs(request.outputs, is_binary)
    return Wanted(
        id=request.id,
        parameters=_read_parameters(given, outputs or {}),
        inputs=_read_inputs(request.inputs, memoryview(body)[length:]),
        outputs=outputs,
        is_binary=is_binary,
    )


@contextmanager
def placed_in_parameters() -> Iterator[None]:
    """Faults of what the parameters ask are told of where they stand in this protocol."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError(str(error), errors=[_placed(fault) for fault in error.errors]) from None


def _placed(fault: Mapping[str, Any]) -> dict[str, Any]:
    loc = list(fault["loc"])
    if loc[:1] == ["return_samples"]:
        loc = ["outputs"]
    elif loc[:1] == ["instances"]:
        loc = ["inputs"]
    elif loc and loc[0] in _OURS:
        loc = ["parameters", *loc]
    return {**fault, "loc": loc}


def _header_length(values: Sequence[str], most: int) -> int:
    """Bytes of the JSON part; without the header all of them."""
    if not values:
        return most
    text = values[0].strip()
    if len(set(values)) > 1 or not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise MalformedError(f"{HEADER_LENGTH} has to be one whole number")
    if int(text) > most:
        raise MalformedError(f"{HEADER_LENGTH} says {text} bytes, and the body has {most}")
    return int(text)


def _read_inputs(inputs: Sequence[InferInput], data: memoryview) -> list[Tensor]:
    """Each with its part of the binary data, which all of them together use up."""
    tensors: dict[str, Tensor] = {}
    at = 0
    for index, given in enumerate(inputs):
        parameters = given.parameters or {}
        size = parameters.get("binary_data_size")
        tensor = Tensor(
            index,
            given.name,
            given.datatype,
            tuple(given.shape),
            given.data or [],
            is_json=parameters.get("content_type") == "pd_json",
        )
        if given.name in tensors:
            raise tensor.fault("is there twice", "name")
        if "shared_memory_region" in parameters:
            raise tensor.fault("shared memory is not offered", "parameters")
        if size is not None:
            content = _take(tensor, size, data[at:], has_json=given.data is not None)
            tensor = replace(tensor, content=content)
            at += size
        elif given.data is None:
            raise tensor.fault("data, or binary_data_size, is due", "data")
        check_size(tensor)
        tensors[given.name] = tensor
    if at != len(data):
        raise MalformedError(
            f"{len(data)} bytes follow the JSON, and binary_data_size of all inputs is {at}"
        )
    return list(tensors.values())


def _take(tensor: Tensor, size: Any, rest: memoryview, *, has_json: bool) -> memoryview:
    place = ("parameters", "binary_data_size")
    if type(size) is not int or size < 0:
        raise tensor.fault("a number of bytes is due", *place)
    if has_json:
        raise tensor.fault("data are either in the JSON or behind it, not both", *place)
    if size > len(rest):
        raise tensor.fault(f"{len(rest)} bytes are left in the body, not {size}", *place)
    return rest[:size]


def _read_outputs(outputs: Sequence[InferOutput] | None, is_binary: bool) -> dict[str, bool] | None:
    wanted: dict[str, bool] = {}
    for index, output in enumerate(outputs or ()):
        place: list[str | int] = ["outputs", index]
        if output.name in wanted:
            raise _fault(f"output {output.name[:64]!r} is there twice", [*place, "name"])
        parameters = output.parameters or {}
        for name in ("classification", "shared_memory_region"):
            if name in parameters:
                message = f"the extension with the parameter {name} is not offered"
                raise _fault(message, [*place, "parameters", name])
        wanted[output.name] = _flag(parameters, "binary_data", [*place, "parameters"], is_binary)
    return wanted or None


def _read_parameters(given: Mapping[str, Any], outputs: Mapping[str, bool]) -> InferParameters:
    """Ours among those given; others are let through, since clients send their own, but not
    ones that are nearly named as ours."""
    for name in itertools.islice(given.keys() - _OURS, MOST_COMPARED):
        near = _near(name[:64])
        if near:
            message = f"is not a parameter; near it: {near}"
            raise _fault(message, ["parameters", name[:64]], f"parameters.{name[:64]}: {message}")
    ours = {name: value for name, value in given.items() if name in _OURS}
    if "quantiles" in ours:
        ours["quantiles"] = _read_levels(ours["quantiles"])
    with placed_in_parameters():
        return parse(InferParameters, ours | {"return_samples": "samples" in outputs})


@functools.lru_cache(MOST_COMPARED)
def _near(name: str) -> str:
    """Ours that is nearly so named, if one is; clients send the same names again and again."""
    return next(iter(difflib.get_close_matches(name, sorted(_OURS), n=1, cutoff=0.85)), "")


def _read_levels(text: Any) -> list[float]:
    message = "numbers between 0 and 1 are due, as a text with commas between them"
    if not isinstance(text, str) or len(text) > LONGEST_LEVELS:
        raise _fault(message, ["parameters", "quantiles"], f"quantiles: {message}")
    try:
        return [float(part) for part in text.split(",") if text.strip()]
    except ValueError:
        raise _fault(message, ["parameters", "quantiles"], f"quantiles: {message}") from None


def _flag(
    parameters: Mapping[str, Any], name: str, place: list[str | int], otherwise: bool = False
) -> bool:
    value = parameters.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        message = "true or false is due"
        raise _fault(message, [*place, name], f"{name}: {message}")
    return value


def _fault(message: str, place: list[str | int], detail: str | None = None) -> InvalidError:
    return InvalidError(detail or message, errors=[{"loc": place, "msg": message}])

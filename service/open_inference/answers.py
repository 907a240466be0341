"""Arrays -> the protocol's answer: named tensors, as JSON or as bytes behind it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from models.uncertainty import ClassificationSummary, moments
from service.computation import Predicted, Uncertain
from service.encodings import LEAST_COMPRESSED, compress
from service.errors import InvalidError
from service.open_inference.metadata import output_names
from service.open_inference.requests import Wanted
from service.wording import near

Array = np.ndarray
# By name, what makes it: only those asked for are made.
Tensors = Mapping[str, Callable[[], Array]]


@dataclass(frozen=True)
class Answer:
    """A body; with binary data, how many of its bytes are the JSON part, before it was
    compressed, if it was."""

    body: bytes
    json_length: int | None
    encoding: str | None


def check_outputs(wanted: Wanted, task: str, *, is_stochastic: bool) -> tuple[str, ...]:
    """The names of the outputs to give, in the order they were asked for.

    Raises:
        InvalidError: the mode has no such output for this model.
    """
    mode = wanted.parameters.mode
    by_default, by_name = output_names(task, mode)
    if wanted.outputs is None:
        return by_default
    known = (*by_default, *by_name)
    for index, name in enumerate(wanted.outputs):
        if name not in known:
            other = "eval" if mode == "mc_dropout" else "mc_dropout"
            message = f"{name[:64]!r} is not an output of mode {mode} ({', '.join(known)})"
            if any(name in names for names in output_names(task, other)) and is_stochastic:
                message += f"; it is one of mode {other}"
            elif name not in known:
                message += near(name, known)
            place = ["outputs", index, "name"]
            raise InvalidError(message, errors=[{"loc": place, "msg": message}])
    return tuple(wanted.outputs)


@dataclass(frozen=True)
class Form:
    """What to make of the arrays: which outputs, how, and under what id.

    Its methods raise:
        InvalidError: a number is beyond what 32 bits hold.
    """

    wanted: Wanted
    names: tuple[str, ...]
    request_id: str
    encoding: str | None

    def predicted(self, answer: Predicted) -> Answer:
        """The answer of eval mode."""
        return self._write(answer, {"mode": "eval"}, _eval_tensors(answer))

    def uncertain(self, answer: Uncertain) -> Answer:
        """The answer of MC mode."""
        drawn, draw = answer.estimate, answer.draw
        said = {
            "mode": "mc_dropout",
            "estimator": drawn.estimator,
            "n_samples": draw.n_samples,
            "samples_used": drawn.samples_used,
            "seed": draw.seed,
            "converged": drawn.converged,
        }
        return self._write(answer, said, _mc_tensors(answer))

    def _write(self, answer: Predicted, said: Mapping[str, Any], tensors: Tensors) -> Answer:
        outputs, parts = [], []
        for name in self.names:
            output, part = _describe(name, tensors[name](), self.wanted.wants_bytes(name))
            outputs.append(output)
            parts.append(part)
        wanted_id = self.wanted.id
        head = orjson.dumps(
            {
                "model_name": answer.loaded.model,
                "model_version": str(answer.loaded.version),
                "id": self.request_id if wanted_id is None else wanted_id,
                "parameters": said,
                "outputs": outputs,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        has_bytes = any(part is not None for part in parts)
        body = b"".join([head, *[part for part in parts if part is not None]])
        encoding = self.encoding if len(body) >= LEAST_COMPRESSED else None
        return Answer(
            compress(body, encoding) if encoding else body,
            len(head) if has_bytes else None,
            encoding,
        )


def _eval_tensors(answer: Predicted) -> Tensors:
    return {"output": lambda: answer.values, "label": lambda: _labels(answer, answer.values)}


def _mc_tensors(answer: Uncertain) -> Tensors:
    drawn = answer.estimate
    summary = drawn.summary
    # Total std for numbers, std over samples for classes, as in `:uncertainty`.
    mean, n_rows = moments(summary)[0], len(answer.values)
    tensors: dict[str, Callable[[], Array]] = {
        "mean": lambda: mean.reshape(n_rows, -1),
        "std": lambda: summary.std.reshape(n_rows, -1),
        "output": lambda: answer.values,
    }
    if drawn.samples is not None:
        samples = drawn.samples
        tensors["samples"] = lambda: samples.reshape(len(samples), n_rows, -1)
    if isinstance(summary, ClassificationSummary):
        tensors["label"] = lambda: _labels(answer, mean)
        tensors["entropy"] = lambda: summary.entropy
        tensors["mutual_information"] = lambda: summary.mutual_information
    else:
        tensors["quantiles"] = lambda: summary.quantiles[:, :, None]
    return tensors


def _labels(answer: Predicted, values: Array) -> Array:
    labels = np.array(answer.loaded.artifact.schema.target.labels, dtype=object)
    return np.asarray(labels[values.argmax(axis=1)])


def _describe(name: str, values: Array, as_bytes: bool) -> tuple[dict[str, Any], bytes | None]:
    """An output in the JSON part, and its bytes if it is wanted so."""
    is_text = values.dtype == object
    values = values if is_text else _to_fp32(name, values)
    output = {
        "name": name,
        "datatype": "BYTES" if is_text else "FP32",
        "shape": list(values.shape),
    }
    if as_bytes:
        part = _to_bytes(values)
        return output | {"parameters": {"binary_data_size": len(part)}}, part
    return output | {"data": values.tolist() if is_text else values.ravel()}, None


def _to_fp32(name: str, values: Array) -> Array:
    with np.errstate(over="ignore"):
        small = np.ascontiguousarray(values, dtype="<f4")
    if not np.isfinite(small).all():
        message = f"output {name!r} holds numbers beyond FP32: :predict and :uncertainty have FP64"
        raise InvalidError(message, errors=[{"loc": ["outputs"], "msg": message}])
    return small


def _to_bytes(values: Array) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    texts = [text.encode() for text in values.tolist()]
    return b"".join([struct.pack("<I", len(text)) + text for text in texts])

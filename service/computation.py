"""One request's rows through a loaded version: rows in, arrays out, whatever the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from models.draw import Draw
from models.errors import NonFiniteError
from models.estimators import Estimate, estimate
from models.kernel import read_rows
from models.live import Claims
from models.plan import predict_array
from models.table import Encoded, Schema
from service.envelope import parse_json
from service.loading import LoadedVersion

# The analytic mean's gap, in stds, of a version that was made before it was measured.
UNKNOWN_GAP = 1.0


class Rows(Protocol):
    """The rows of one request, as its wire format has them."""

    def count(self, schema: Schema) -> int:
        """N, found without looking at any cell."""

    def encode(self, schema: Schema) -> Encoded:
        """What the network reads.

        Raises:
            EncodeError: rows that do not fit the schema.
        """


@dataclass(slots=True)
class Instances:
    """Rows as JSON has them: objects by feature name, or arrays in the schema's order."""

    values: Sequence[Any]

    def count(self, schema: Schema) -> int:  # noqa: ARG002 (of the protocol)
        return len(self.values)

    def encode(self, schema: Schema) -> Encoded:
        return schema.encode(self.values)


@dataclass(slots=True)
class Numbers:
    """The same of arrays that all are `numbers` (N, K) alone, and the JSON that they stood in."""

    numbers: np.ndarray
    body: bytes

    @classmethod
    def read(cls, body: bytes) -> Numbers | None:
        """Those of a body that is nothing but such rows."""
        numbers = read_rows(body)
        return None if numbers is None else cls(numbers, body)

    def count(self, schema: Schema) -> int:  # noqa: ARG002 (of the protocol)
        return len(self.numbers)

    def encode(self, schema: Schema) -> Encoded:
        if schema.is_numeric and self.numbers.shape[1] == len(schema.features):
            return schema.encode_numbers(self.numbers)
        return schema.encode(parse_json(self.body)["instances"])


@dataclass(slots=True)
class Predicted:
    """What eval mode says: `values` (N, C) in the target's units, or probabilities."""

    loaded: LoadedVersion
    encoded: Encoded
    values: np.ndarray


@dataclass(slots=True)
class Uncertain(Predicted):
    """What MC mode says beside it, the draw that was asked for, and what it promises."""

    draw: Draw
    estimate: Estimate
    claims: Claims


def evaluate(loaded: LoadedVersion, rows: Rows) -> Predicted:
    """Eval mode: one pass, dropout off.

    Raises:
        EncodeError: rows that do not fit the schema.
        NonFiniteError: an answer would not be a finite number.
    """
    return evaluate_together(loaded, [rows.encode(loaded.artifact.schema)])[0]


def draw_samples(
    loaded: LoadedVersion, rows: Rows, draw: Draw, coverage: float | None = None
) -> Uncertain:
    """MC mode: the predictive distribution by that draw, and intervals or sets of that coverage,
    if there is one; raises as `evaluate` does, and

    NotStochasticError: the model has no dropout.
    EstimatorError: samples are asked of an estimator that draws none.
    """
    return draw_together(loaded, [rows.encode(loaded.artifact.schema)], draw, coverage)[0]


def evaluate_together(loaded: LoadedVersion, asked: Sequence[Encoded]) -> list[Predicted]:
    """What `evaluate` says to each of several, in one pass; a NonFiniteError counts the rows of
    all."""
    values = eval_values(loaded, _join(asked))
    return [
        Predicted(loaded, encoded, values[rows])
        for encoded, rows in zip(asked, _parts(asked), strict=True)
    ]


def draw_together(
    loaded: LoadedVersion,
    asked: Sequence[Encoded],
    draw: Draw,
    coverage: float | None = None,
    planned: Draw | None = None,
) -> list[Uncertain]:
    """The same for `draw_samples`; draws that may stop early stop for all of them.

    `planned` is what `models.draw.choose` makes of the draw, if that is known.
    """
    schema, calibration = loaded.artifact.schema, loaded.artifact.calibration
    x = _join(asked)
    # Within two standard errors are 95 % of rows.
    gap = calibration.analytic_gaps.get("mean", UNKNOWN_GAP) / 2.0
    drawn = estimate(loaded.plan, schema.target, x, planned or draw, analytic_gap=gap)
    values = eval_values(loaded, x) if drawn.plain is None else _decode(loaded, drawn.plain)
    calibrated = calibration.at(drawn.textbook_samples)
    answers = []
    for encoded, rows in zip(asked, _parts(asked), strict=True):
        own = drawn if len(asked) == 1 else drawn[rows]
        claims = Claims(own.summary, calibrated, coverage, encoded.inputs, draw.seed)
        answers.append(Uncertain(loaded, encoded, values[rows], draw, own, claims))
    return answers


def _join(asked: Sequence[Encoded]) -> np.ndarray:
    inputs = [encoded.inputs for encoded in asked]
    return inputs[0] if len(inputs) == 1 else np.concatenate(inputs)


def _parts(asked: Sequence[Encoded]) -> list[slice]:
    """The rows of each among those of all."""
    if len(asked) == 1:
        return [slice(0, len(asked[0].inputs))]
    ends = list(accumulate(len(encoded.inputs) for encoded in asked))
    return [slice(end - len(one.inputs), end) for one, end in zip(asked, ends, strict=True)]


def eval_values(loaded: LoadedVersion, x: np.ndarray) -> np.ndarray:
    """(N, C) in the target's units, or probabilities, from inputs (N, D)."""
    return _decode(loaded, predict_array(loaded.plan, x))


def _decode(loaded: LoadedVersion, raw: np.ndarray) -> np.ndarray:
    """The same from raw outputs (N, K)."""
    outputs = raw[:, : loaded.plan.config.out_features]
    is_finite = np.isfinite(outputs)
    if np.count_nonzero(is_finite) < is_finite.size:
        raise NonFiniteError(np.flatnonzero(~is_finite.all(axis=1)).tolist())
    return np.asarray(loaded.artifact.schema.decode(outputs))

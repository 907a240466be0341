"""What can go wrong in the mathematics, each with a message that names cause and mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DropcastError(Exception):
    """Any error of this package that a caller can act on."""


@dataclass(frozen=True)
class Problem:
    """One wrong cell: its row in the request, the feature (None: the row itself), what is wrong."""

    row: int
    feature: str | int | None
    message: str


class EncodeError(DropcastError):
    """Rows that do not fit the schema; `problems` says where."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        place = f"row {first.row}" + (f", {first.feature}" if first.feature is not None else "")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{place}: {first.message}{more}")


class DataError(DropcastError):
    """Training data that cannot be used; `code` for programs, `param` names the column."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.code = code
        self.param = param
        super().__init__(message)


class ArtifactError(DropcastError):
    """A folder or file that is not a whole, unchanged artifact."""


class NotStochasticError(DropcastError):
    """Monte Carlo was asked of a network that has nothing to draw."""


class EstimatorError(DropcastError):
    """An estimator was asked for what it cannot give."""


class NonFiniteError(DropcastError):
    """The network's output overflowed for the rows in `rows`."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        super().__init__(
            f"the network's output for row {self.rows[0]} is not a finite number: "
            "its inputs are too far outside the range of the training data"
        )


class CoverageError(DropcastError):
    """More coverage was asked than the calibration rows can vouch for."""


class TrainingError(DropcastError):
    """Training did not end in a usable network; `code` for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class DeviceError(DropcastError):
    """A device was asked for that this machine does not have."""

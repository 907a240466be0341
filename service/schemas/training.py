"""Training jobs and their events."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from service.schemas.answers import Page
from service.schemas.requests import Name, Probability, Request, Seed

Width = Annotated[int, Field(ge=1, le=8192)]
# 400 MB of them, and training needs six times as much.
MOST_WEIGHTS = 100_000_000


def _fault(loc: tuple[str, ...], message: str) -> ValidationError:
    """A fault of several fields together, placed at one of them."""
    kind = PydanticCustomError("combination", message)
    details = InitErrorDetails(type=kind, loc=loc, input=None)
    return ValidationError.from_exception_data("Request", [details])


def _probabilities(value: Any) -> float | list[float]:
    """One check for both forms, so that a fault is at `p` and not at a form of it."""
    for p in value if isinstance(value, list) else [value]:
        if type(p) not in (int, float) or not 0 <= p < 1:
            raise ValueError("a number from 0 to less than 1 is due, or a list of them")
    checked: float | list[float] = value
    return checked


_PROBABILITY_SCHEMA = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}


class DropoutChoice(Request):
    """`p` is the probability of being dropped: one for all hidden layers, or one for each."""

    kind: Literal["bernoulli", "gaussian", "concrete", "dropconnect"] = "bernoulli"
    p: Annotated[
        float | list[float],
        PlainValidator(_probabilities),
        WithJsonSchema(
            {"anyOf": [_PROBABILITY_SCHEMA, {"type": "array", "items": _PROBABILITY_SCHEMA}]}
        ),
    ] = 0.1
    input_p: Probability = 0.0


class Hyperparameters(Request):
    """Null lets the service choose. The defaults do well on ordinary tabular data."""

    hidden: Annotated[list[Width], Field(min_length=1, max_length=16)] = [256, 256]
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: DropoutChoice = DropoutChoice()
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 1e-2
    schedule: Literal["cosine", "plateau"] = "cosine"
    max_norm: Annotated[float, Field(gt=0)] | None = None
    gradient_clip: Annotated[float, Field(gt=0)] | None = 5.0
    early_stopping_patience: Annotated[int, Field(ge=1)] = 50
    class_weights: Literal["balanced"] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Hyperparameters:
        p, n_layers = self.dropout.p, len(self.hidden)
        if isinstance(p, list) and len(p) != n_layers:
            raise _fault(("dropout", "p"), f"{len(p)} values for {n_layers} hidden layers")
        weights = sum(a * b for a, b in pairwise(self.hidden))
        if weights > MOST_WEIGHTS:
            message = f"{weights} weights between hidden layers, the most is {MOST_WEIGHTS}"
            raise _fault(("hidden",), message)
        return self


class TrainingJobRequest(Request):
    """Body of `POST /v1/training_jobs`. Fractions are of the rows whose target is known."""

    model: Name
    dataset: str
    target: Annotated[str, Field(min_length=1)]
    task: Literal["auto", "regression", "classification"] = "auto"
    hyperparameters: Hyperparameters = Hyperparameters()
    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    calibration_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    seed: Seed = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$")] = "auto"
    promote: Literal["if_better", "always", "never"] = "if_better"
    metadata: Annotated[
        dict[str, Annotated[str, Field(max_length=500)] | int | float | bool | None],
        Field(max_length=16, description="Yours to set; kept with the job"),
    ] = {}


class Progress(BaseModel):
    """How far a job is; `fraction` counts epochs, early stopping may end it sooner."""

    epoch: int
    epochs: int
    fraction: float
    eta_seconds: float | None


class JobError(BaseModel):
    """Why a job failed: a code for programs, a text that names the mend, the field to blame."""

    code: str
    message: str
    param: str | None


class JobResult(BaseModel):
    """The version that a job published, whether it was promoted, and on what grounds."""

    model: str
    version: int
    promoted: bool
    promotion: str


Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class TrainingJob(TrainingJobRequest):
    """A training job, and the request it came from."""

    model_config = ConfigDict(strict=False, extra="forbid")

    id: str
    object: Literal["training_job"] = "training_job"
    status: Status
    attempt: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    progress: Progress | None
    metrics: dict[str, Any] | None
    error: JobError | None
    result: JobResult | None


class JobEvent(BaseModel):
    """Something that happened to a job; ids count up from 1."""

    id: int
    object: Literal["training_job.event"] = "training_job.event"
    type: Literal["status", "epoch", "log"]
    level: Literal["info", "warning", "error"]
    message: str
    data: dict[str, Any]
    created_at: dt.datetime


class JobEventPage(Page[JobEvent]):
    """One page of a job's events."""

"""Training jobs and their events."""

from __future__ import annotations

import datetime as dt
import math
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
from service.schemas.requests import Name, Request, Seed

Width = Annotated[int, Field(ge=1, le=8192)]
# 400 MB of them, and training needs six times as much.
MOST_WEIGHTS = 100_000_000
# Below it a hundred samples would hardly drop a unit.
LEAST_P = 1e-4
# Its logit is learned in 32 bits.
MOST_CONCRETE_P = 0.999


def _fault(loc: tuple[str, ...], message: str) -> ValidationError:
    """A fault of several fields together, placed at one of them."""
    kind = PydanticCustomError("combination", message)
    details = InitErrorDetails(type=kind, loc=loc, input=None)
    return ValidationError.from_exception_data("Request", [details])


def _probability(value: Any) -> float:
    if type(value) not in (int, float) or not (value == 0 or LEAST_P <= value < 1):
        raise ValueError(f"0, or a number from {LEAST_P} to less than 1 is due")
    return float(value)


def _probabilities(value: Any) -> float | list[float] | Literal["auto"]:
    """One check for all forms, so that a fault is at `p` and not at a form of it."""
    if value == "auto":
        return "auto"
    if isinstance(value, str):
        raise ValueError(
            f'"auto", 0, a number from {LEAST_P} to less than 1, or a list of such numbers is due'
        )
    return [_probability(p) for p in value] if isinstance(value, list) else _probability(value)


_P_SCHEMA = {"anyOf": [{"const": 0}, {"type": "number", "minimum": LEAST_P, "exclusiveMaximum": 1}]}
_EACH_P_SCHEMA = {"anyOf": [_P_SCHEMA, {"type": "array", "items": _P_SCHEMA}, {"const": "auto"}]}


class DropoutChoice(Request):
    """Dropout of the network, and how likely it is."""

    kind: Annotated[
        Literal["bernoulli", "gaussian", "concrete", "dropconnect"],
        Field(description="`concrete` learns p, from the one given here"),
    ] = "bernoulli"
    p: Annotated[
        float | list[float] | Literal["auto"],
        PlainValidator(_probabilities),
        WithJsonSchema(_EACH_P_SCHEMA),
        Field(
            description="Probability that a unit is dropped: one for all hidden layers, or a "
            "list with one for each. `auto` first searches the one for all, and the weight "
            "decay, under which rows that do not train are likeliest: 8 trials, which together "
            "take about as long as four fits to the last epoch; `concrete` dropout, which learns "
            "p, then starts from 0.1"
        ),
    ] = 0.1
    input_p: Annotated[
        float,
        PlainValidator(_probability),
        WithJsonSchema(_P_SCHEMA),
        Field(description="The same for the inputs"),
    ] = 0.0

    @model_validator(mode="after")
    def _can_be_learned(self) -> DropoutChoice:
        every = self.p if isinstance(self.p, list) else [] if self.p == "auto" else [self.p]
        for place, values in (("p", every), ("input_p", [self.input_p])):
            if self.kind == "concrete" and any(p > MOST_CONCRETE_P for p in values):
                message = f"concrete dropout learns from a p of at most {MOST_CONCRETE_P}"
                raise _fault((place,), message)
        return self


class Hyperparameters(Request):
    """The defaults do well on ordinary tabular data."""

    hidden: Annotated[
        list[Width],
        Field(min_length=1, max_length=16, description="Units of each hidden layer"),
    ] = [256, 256]
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: DropoutChoice = DropoutChoice()
    epochs: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        Field(description="Most passes over the training rows; null chooses by their number"),
    ] = None
    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        Field(description="Rows of one step; null chooses by the number of training rows"),
    ] = None
    learning_rate: Annotated[float, Field(gt=0, le=10, description="Of AdamW, at its peak")] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, le=10, description="Of AdamW, decoupled")] = 1e-2
    schedule: Annotated[
        Literal["cosine", "plateau"],
        Field(description="How the learning rate falls: along a cosine, or when nothing improves"),
    ] = "cosine"
    max_norm: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="Largest norm of the weights into one unit; null sets none"),
    ] = None
    gradient_clip: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="Largest norm of a step's gradient; null sets none"),
    ] = 5.0
    early_stopping_patience: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Epochs without a better validation loss before training stops; as many "
            "as `epochs` never stops early",
        ),
    ] = 50
    class_weights: Annotated[
        Literal["balanced"] | None,
        Field(description="`balanced` weighs rare classes up; null counts rows alike"),
    ] = None

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


def _note(value: Any) -> Any:
    """One check for all forms, so that a fault is at the key and not at a form."""
    if isinstance(value, str):
        fits = len(value) <= 500 and "\0" not in value
    elif isinstance(value, float):
        fits = math.isfinite(value)
    else:
        fits = value is None or (isinstance(value, int) and -(2**63) <= value < 2**63)
    if not fits:
        raise ValueError(
            "a text of at most 500 characters, a finite number, a boolean or null is due"
        )
    return value


_NOTE_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
Note = Annotated[Any, PlainValidator(_note), WithJsonSchema(_NOTE_SCHEMA)]
Key = Annotated[str, Field(pattern=r"^[^\x00]{1,64}$", description="1 to 64 characters")]


class TrainingJobRequest(Request):
    """Body of `POST /v1/training_jobs`. Fractions are of the rows whose target is known."""

    model: Name
    dataset: Annotated[str, Field(max_length=100, description="Id of an uploaded dataset")]
    target: Annotated[str, Field(min_length=1, max_length=200, description="The column to predict")]
    task: Annotated[
        Literal["auto", "regression", "classification"],
        Field(
            description="`auto` is regression for a column of numbers with more than two "
            "different values, else classification"
        ),
    ] = "auto"
    hyperparameters: Hyperparameters = Hyperparameters()
    validation_fraction: Annotated[
        float, Field(gt=0, le=0.5, description="For early stopping, and for the noise level")
    ] = 0.1
    calibration_fraction: Annotated[
        float, Field(gt=0, le=0.5, description="For intervals, prediction sets and metrics")
    ] = 0.15
    calibration: Annotated[
        Literal["auto", "split", "cross"],
        Field(
            description="On which rows: `split`, those of `calibration_fraction`; `cross`, all, "
            "each judged by a network that has not seen it, which takes about six times as "
            "long; `auto` is `cross` below 1,000 rows"
        ),
    ] = "auto"
    keep_excerpt: Annotated[
        bool,
        Field(
            description="Keep with the version, for whoever may read its card, up to 200 of the "
            "training rows, and predictions beside the truth of up to 500 held-out rows"
        ),
    ] = True
    seed: Annotated[Seed, Field(description="Of splits, first weights and batches")] = 0
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda|cuda:(0|[1-9]\d{0,2}))$",
            description="`auto`, `cpu`, `cuda` or `cuda:N`; `auto` is what the service uses",
        ),
    ] = "auto"
    promote: Annotated[
        Literal["if_better", "always", "never"],
        Field(
            description="When the new version becomes `production`: if it scores better than "
            "the present one on the same held-out rows, or if there is none; always; never"
        ),
    ] = "if_better"
    metadata: Annotated[
        dict[Key, Note], Field(max_length=16, description="Yours to set; kept with the job")
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


class Comparison(BaseModel):
    """A new version beside the one in production: mean negative log-likelihood in MC mode, the
    less the better, on the same held-out rows."""

    version: Annotated[int, Field(description="The one in production")]
    score: Literal["negative_log_likelihood"]
    rows: Annotated[int, Field(description="Held-out rows that were compared on")]
    own: float
    other: float
    is_fair: Annotated[
        bool,
        Field(
            description="Whether neither has learned from any of these rows; if not, the one in "
            "production may look better than it is"
        ),
    ]


class JobResult(BaseModel):
    """The version that a job published, whether it was promoted, and on what grounds."""

    model: str
    version: int
    promoted: bool
    promotion: str
    comparison: Comparison | None = None


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

"""Wire types, with units and bounds: what requests may say, and what answers look like.

Answers of the inference routes are written straight to JSON; their types here are the
documentation that `/docs` shows, held to the truth by tests.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

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
Probability = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


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
        raise invalid(error.errors(include_url=False, include_input=False)) from None


# --- inference --------------------------------------------------------------------------

Instances = Annotated[
    list[Any],
    Field(
        min_length=1,
        description="Rows: each an object by feature name, or an array in the schema's order",
    ),
]


class PredictRequest(Request):
    """Body of `:predict`. Other fields of the TensorFlow Serving protocol are let through."""

    model_config = ConfigDict(strict=True, extra="ignore")

    instances: Instances


class UncertaintyRequest(Request):
    """Body of `:uncertainty`."""

    instances: Instances
    n_samples: Annotated[
        int,
        Field(ge=2, le=10_000, description="T: thinned networks to draw, or the most that may be"),
    ] = 100
    seed: Annotated[
        Seed | None, Field(description="Names the T masks; null draws a fresh one; always echoed")
    ] = 0
    estimator: Literal["auto", "mc"] = "auto"
    quantiles: Annotated[
        list[Annotated[float, Field(gt=0, lt=1)]],
        Field(max_length=100, description="Of the predictive distribution (regression)"),
    ] = [0.05, 0.5, 0.95]
    coverage: Annotated[
        float, Field(gt=0, lt=1, description="Of `interval` or `prediction_set`")
    ] = 0.9
    tolerance: Annotated[
        float | None,
        Field(gt=0, description="Stop once every row's standard error of the mean is at most this"),
    ] = None
    deadline_ms: Annotated[
        float | None, Field(gt=0, description="Stop drawing when this time is up (milliseconds)")
    ] = None
    return_samples: bool = False


class DropoutRequest(Request):
    """Body of `:dropout`: one row, as `instance` or as the only one of `instances`."""

    instance: Annotated[Any, Field(description="The row")] = None
    instances: Annotated[list[Any] | None, Field(min_length=1, max_length=1)] = None
    seed: Seed | None = 0
    n_samples: Annotated[int, Field(ge=2, le=10_000)] = 100


class Prediction(BaseModel):
    """One row of `:predict`: `value` for regression, the others for classification."""

    value: Annotated[float | None, Field(description="In the target's unit")] = None
    label: str | None = None
    probabilities: dict[str, float] | None = None
    flags: Annotated[
        list[str] | None, Field(description="`unknown_category:NAME`, `out_of_range:NAME`")
    ] = None


class PredictResponse(BaseModel):
    """Answer of `:predict`."""

    model: str
    version: int
    predictions: list[Prediction]


class Interval(BaseModel):
    """Conformal: contains the truth with this probability on exchangeable data."""

    coverage: float
    lower: float
    upper: float


class PredictionSet(BaseModel):
    """Conformal: contains the true label with this probability on exchangeable data."""

    coverage: float
    labels: list[str]


class UncertainPrediction(BaseModel):
    """One row of `:uncertainty`; fields of the other task are absent."""

    value: Annotated[float | None, Field(description="Eval mode, regression")] = None
    mean: float | None = None
    std: Annotated[float | dict[str, float], Field(description="Total; for classes of each one")]
    epistemic_std: float | None = None
    aleatoric_std: float | None = None
    standard_error: Annotated[
        float | dict[str, float], Field(description="Of the mean; for classes of each one")
    ]
    quantiles: dict[str, float] | None = None
    interval: Interval | None = None
    label: str | None = None
    probabilities: Annotated[dict[str, float] | None, Field(description="MC mean")] = None
    deterministic: Annotated[Prediction | None, Field(description="Eval mode")] = None
    entropy: Annotated[float | None, Field(description="In nats")] = None
    expected_entropy: float | None = None
    mutual_information: float | None = None
    variation_ratio: float | None = None
    prediction_set: PredictionSet | None = None
    decision: Literal["accept", "abstain"]
    samples: list[float] | list[dict[str, float]] | None = None
    flags: list[str] | None = None


class UncertaintyResponse(BaseModel):
    """Answer of `:uncertainty`."""

    model: str
    version: int
    mode: Literal["mc_dropout"]
    estimator: str
    n_samples: int
    samples_used: int
    seed: int
    converged: bool
    predictions: list[UncertainPrediction]


class DropoutLayer(BaseModel):
    """What dropout does at one place, in eval mode and in the first sample."""

    name: str
    kind: str
    p: Annotated[float, Field(description="Probability that a unit (or weight) is dropped")]
    scale: Annotated[float, Field(description="1/(1-p), the factor of what survives")]
    units: int
    eval_activations: list[float]
    sample_activations: Annotated[list[float], Field(description="Before the mask")]
    mask: Annotated[
        list[float] | list[list[float]],
        Field(description="0 dropped, 1 kept, or a factor; (out, in) for DropConnect"),
    ]
    masked_activations: Annotated[
        list[float], Field(description="After mask and scale; for DropConnect the layer's output")
    ]
    fraction_dropped: float


class DropoutResponse(BaseModel):
    """Answer of `:dropout`. Outputs are as in `:predict`, one for each of the T samples."""

    model: str
    version: int
    mode: Literal["mc_dropout"]
    seed: int
    n_samples: int
    layers: list[DropoutLayer]
    eval_output: Prediction
    outputs: list[float] | list[dict[str, float]]
    running_mean: list[float] | list[dict[str, float]]
    fraction_dropped: Annotated[float, Field(description="Over all layers and all T samples")]
    flags: list[str] | None = None


# --- datasets ---------------------------------------------------------------------------


class Column(BaseModel):
    """What a dataset's column holds; `note` says why it would not be used as a feature."""

    name: str
    type: Literal["number", "category", "boolean", "unusable"]
    missing: int
    distinct: int
    minimum: float | None
    maximum: float | None
    examples: list[str]
    note: str | None


class Dataset(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    format: Literal["csv", "parquet", "ndjson"]
    bytes: int
    sha256: str
    rows: int
    columns: list[Column]
    created_at: dt.datetime


# --- training ---------------------------------------------------------------------------

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


# --- models -----------------------------------------------------------------------------


class Card(BaseModel):
    """All there is to say of a version."""

    model: str
    version: int
    task: Literal["regression", "classification"]
    target: str
    created_at: str
    features: list[dict[str, Any]]
    ignored_columns: dict[str, str]
    network: dict[str, Any]
    dropout: dict[str, Any]
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    provenance: dict[str, Any]
    artifact_sha256: str


class Model(BaseModel):
    """A model: its aliases and its versions, newest first."""

    model: str
    object: Literal["model"] = "model"
    task: Literal["regression", "classification"] | None
    created_at: dt.datetime
    aliases: dict[str, int]
    versions: list[Card]


class AliasRequest(Request):
    """Body of `PUT /v1/models/{model}/aliases/{alias}`."""

    version: Annotated[int, Field(ge=1)]


class AliasAnswer(BaseModel):
    """Where an alias points."""

    model: str
    alias: str
    version: int


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


class JobEventPage(Page[JobEvent]):
    """One page of a job's events."""

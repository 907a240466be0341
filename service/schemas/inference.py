"""`:predict`, `:uncertainty` and `:dropout`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.requests import Request, Seed

Instances = Annotated[
    list[Any],
    Field(
        min_length=1,
        description="Rows: each an object by feature name, or an array in the schema's order",
    ),
]


QUANTILES = (0.05, 0.5, 0.95)

RowIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
    Field(description="Your names of the rows, one for each, by which `:feedback` may find them"),
]


class PredictRequest(Request):
    """Body of `:predict`. Other fields of the TensorFlow Serving protocol are let through."""

    model_config = ConfigDict(strict=True, extra="ignore")

    instances: Instances
    row_ids: RowIds = None


class DrawRequest(Request):
    """What MC mode draws, whatever the wire format of the rows."""

    n_samples: Annotated[
        int,
        Field(ge=2, le=10_000, description="T: thinned networks to draw, or the most that may be"),
    ] = 100
    seed: Annotated[
        Seed | None, Field(description="Names the T masks; null draws a fresh one; always echoed")
    ] = 0
    estimator: Annotated[
        Literal["auto", "mc", "stratified", "control_variate", "analytic"],
        Field(
            description="`mc`: independent masks. `stratified` and `control_variate` need fewer "
            "samples, `analytic` draws none. `auto`: the cheapest whose mean, std and quantiles "
            "are at least as accurate as `n_samples` of `mc`"
        ),
    ] = "auto"
    quantiles: Annotated[
        list[Annotated[float, Field(gt=0, lt=1)]],
        Field(
            max_length=100,
            description="Of the predictive distribution (regression)",
            json_schema_extra={"default": [*QUANTILES]},
        ),
    ] = Field(default_factory=lambda: [*QUANTILES])  # a list, pydantic would copy part by part
    tolerance: Annotated[
        float | None,
        Field(gt=0, description="Stop once every row's standard error of the mean is at most this"),
    ] = None
    deadline_ms: Annotated[
        float | None, Field(gt=0, description="Stop drawing when this time is up (milliseconds)")
    ] = None
    return_samples: bool = False


class UncertaintyRequest(DrawRequest):
    """Body of `:uncertainty`."""

    instances: Instances
    coverage: Annotated[
        float, Field(gt=0, lt=1, description="Of `interval` or `prediction_set`")
    ] = 0.9
    row_ids: RowIds = None


class DropoutRequest(Request):
    """Body of `:dropout`: one row, as `instance` or as the only one of `instances`."""

    instance: Annotated[Any, Field(description="The row")] = None
    instances: Annotated[list[Any] | None, Field(min_length=1, max_length=1)] = None
    seed: Annotated[
        Seed | None, Field(description="Names the T masks; null draws a fresh one; always echoed")
    ] = 0
    n_samples: Annotated[int, Field(ge=2, le=10_000, description="T")] = 100
    sample: Annotated[
        int, Field(ge=0, description="Which of the T samples the layers show, from 0")
    ] = 0
    p: Annotated[
        float | None,
        Field(
            ge=1e-4,
            lt=1,
            description="Used in place of the version's own wherever it drops: what would be "
            "if p were another. The weights stay those trained with the version's own",
        ),
    ] = None
    max_units: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Tell of at most so many units of each layer, spread evenly over it "
            "(`shown`), and of the weights between these (`network`); null tells of all units",
        ),
    ] = None


class Prediction(BaseModel):
    """One row of `:predict`: `value` for regression, the others for classification."""

    value: Annotated[float | None, Field(description="In the target's unit")] = None
    label: str | None = None
    probabilities: dict[str, float] | None = None
    flags: Annotated[
        list[str] | None,
        Field(
            description="Of the row's features: `unknown_category:NAME`, `out_of_range:NAME`, "
            "`missing:NAME` (imputed)"
        ),
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
    """What dropout does at one place, in eval mode and in the sample shown."""

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
    fraction_dropped: Annotated[float, Field(description="Of all units (or weights)")]
    shown: Annotated[
        list[int] | None, Field(description="With `max_units`: which units the arrays are of")
    ] = None


class NetworkLayer(BaseModel):
    """A layer to be drawn: its size, and which of its units are shown."""

    name: str
    units: int
    shown: list[int]
    labels: Annotated[list[str] | None, Field(description="Of inputs and outputs")] = None
    values: Annotated[
        list[float] | None, Field(description="Of inputs: what the network reads, encoded")
    ] = None


class Network(BaseModel):
    """The network to be drawn, from the input to the output."""

    layers: list[NetworkLayer]
    links: Annotated[
        list[list[list[float]]],
        Field(
            description="`links[i][j][k]`: the weight from shown unit k of layer i to shown unit "
            "j of layer i + 1"
        ),
    ]


class Moments(BaseModel):
    """Of the T outputs; by label for classes."""

    mean: float | dict[str, float]
    std: float | dict[str, float]
    standard_error: Annotated[
        float | dict[str, float], Field(description="Of the mean, as an estimate of the MC mean")
    ]


class DropoutResponse(BaseModel):
    """Answer of `:dropout`. Outputs are as in `:predict`, one for each of the T samples."""

    model: str
    version: int
    mode: Literal["mc_dropout"]
    seed: int
    n_samples: int
    sample: int
    layers: list[DropoutLayer]
    network: Annotated[Network | None, Field(description="With `max_units`")] = None
    eval_output: Prediction
    outputs: list[float] | list[dict[str, float]]
    running_mean: list[float] | list[dict[str, float]]
    mc_output: Moments
    fraction_dropped: Annotated[float, Field(description="Over all layers and all T samples")]
    flags: list[str] | None = None

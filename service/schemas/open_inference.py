"""The Open Inference Protocol v2: the JSON part of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.answers import Problem
from service.schemas.inference import DrawRequest
from service.schemas.requests import Request

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Dimension = Annotated[int, Field(ge=0, lt=2**63)]
Parameters = Annotated[
    dict[str, Any] | None, Field(description="Those that are not known here are let through")
]


class _Lenient(Request):
    """The protocol's clients send fields of their own."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=True)


class InferInput(_Lenient):
    """A tensor: in `data`, flat or nested, or after the JSON as `binary_data_size` bytes."""

    name: str
    shape: Annotated[list[Dimension], Field(min_length=1, max_length=2, description="Rows first")]
    datatype: Datatype
    parameters: Parameters = None
    data: Annotated[list[Any] | None, Field(description="null is a missing value")] = None


class InferOutput(_Lenient):
    """A tensor that is asked for; with `binary_data` true it comes as bytes after the JSON."""

    name: str
    parameters: Parameters = None


class InferRequest(_Lenient):
    """Body of `infer`: one tensor `input` with a column for each feature, or one for each."""

    id: Annotated[str | None, Field(description="Comes back in the answer")] = None
    parameters: Annotated[
        dict[str, Any] | None,
        Field(
            description="`mode`: `eval` or `mc_dropout`; for the latter `n_samples`, `seed`, "
            "`estimator`, `quantiles` (text, comma separated), `tolerance`, `deadline_ms`. "
            "`binary_data_output`: outputs as bytes. Others are let through"
        ),
    ] = None
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=10_000)]
    outputs: Annotated[
        list[InferOutput] | None, Field(max_length=100, description="Null asks for the usual ones")
    ] = None


class InferParameters(DrawRequest):
    """Those of a request's parameters that are ours."""

    mode: Annotated[Literal["eval", "mc_dropout"], Field(description="Dropout off, or on")] = "eval"


class InferTensor(BaseModel):
    """A tensor of an answer: `data` is flat, and absent where the bytes follow the JSON."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """Answer of `infer`."""

    model_name: str
    model_version: str
    id: Annotated[str, Field(description="The request's own, or its X-Request-Id")]
    parameters: Annotated[
        dict[str, Any], Field(description="How it was computed, as in `:uncertainty`")
    ]
    outputs: list[InferTensor]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives; -1 is any size."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Annotated[dict[str, Any] | None, Field(description="What the numbers mean")] = None


class ModelMetadata(BaseModel):
    """A model's tensors. It takes the first input by itself, or all the others together."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class ServerMetadata(BaseModel):
    """The server, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]
    intra_op_threads: Annotated[int, Field(description="Threads of one computation")]
    compiled_kernel: Annotated[
        bool, Field(description="Whether small requests are computed by compiled code")
    ]


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """It can serve."""

    ready: bool


class ModelReady(BaseModel):
    """The version can answer."""

    name: str
    ready: bool


class IndexRequest(_Lenient):
    """Body of the repository's index, which may be empty."""

    ready: Annotated[bool, Field(description="Only what can answer")] = False


class IndexEntry(BaseModel):
    """A version of a model."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class InferProblem(Problem):
    """Problem details, and their text once more where the protocol's clients look for it."""

    error: str

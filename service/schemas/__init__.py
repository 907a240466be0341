"""Wire types, with units and bounds: what requests may say, and what answers look like.

Answers of the inference routes are written straight to JSON; their types here are the
documentation that `/docs` shows, held to the truth by tests.
"""

from service.schemas.answers import Page, Problem, ProblemError
from service.schemas.datasets import Column, Dataset
from service.schemas.inference import (
    DrawRequest,
    DropoutLayer,
    DropoutRequest,
    DropoutResponse,
    Interval,
    Prediction,
    PredictionSet,
    PredictRequest,
    PredictResponse,
    UncertainPrediction,
    UncertaintyRequest,
    UncertaintyResponse,
)
from service.schemas.models import AliasAnswer, AliasRequest, Card, Model
from service.schemas.requests import Request, parse
from service.schemas.training import (
    DropoutChoice,
    Hyperparameters,
    JobError,
    JobEvent,
    JobEventPage,
    JobResult,
    Progress,
    Status,
    TrainingJob,
    TrainingJobRequest,
)

__all__ = [
    "AliasAnswer",
    "AliasRequest",
    "Card",
    "Column",
    "Dataset",
    "DrawRequest",
    "DropoutChoice",
    "DropoutLayer",
    "DropoutRequest",
    "DropoutResponse",
    "Hyperparameters",
    "Interval",
    "JobError",
    "JobEvent",
    "JobEventPage",
    "JobResult",
    "Model",
    "Page",
    "PredictRequest",
    "PredictResponse",
    "Prediction",
    "PredictionSet",
    "Problem",
    "ProblemError",
    "Progress",
    "Request",
    "Status",
    "TrainingJob",
    "TrainingJobRequest",
    "UncertainPrediction",
    "UncertaintyRequest",
    "UncertaintyResponse",
    "parse",
]

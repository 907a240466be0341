"""The families of figures that `/metrics` shows and processes count; docs/observability.md lists
all of them.

Names have the prefix `dropcast_` and base units; counters get `_total` where they are shown.
"""

from __future__ import annotations

from service.figures import Family

FLAGS = ("out_of_range", "unknown_category", "missing")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
LATENCIES = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
RATIOS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0)
NATS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)

_SERVED = ("model", "version", "mode")

REQUESTS = Family(
    "dropcast_requests", "counter", "Inference requests answered, by HTTP status",
    (*_SERVED, "status"),
)  # fmt: skip
DURATION = Family(
    "dropcast_request_duration_seconds", "histogram",
    "Time from an inference request's arrival to the last byte of its answer",
    (*_SERVED, "status"), LATENCIES,
)  # fmt: skip
HTTP_REQUESTS = Family(
    "dropcast_http_requests", "counter", "Requests answered, of every route",
    ("route", "method", "status"),
)  # fmt: skip
INFERENCES = Family("dropcast_inferences", "counter", "Rows answered", _SERVED)
EXECUTIONS = Family(
    "dropcast_executions", "counter",
    "Computations; rows per computation are inferences over executions", _SERVED,
)  # fmt: skip
COMPUTE = Family("dropcast_compute_seconds", "counter", "Time spent computing", _SERVED)
QUEUE = Family(
    "dropcast_queue_seconds", "counter", "Time that computations waited for a thread", _SERVED
)
QUEUE_DEPTH = Family(
    "dropcast_queue_depth", "gauge", "Requests that wait for a thread or compute in one"
)
SAMPLES_ASKED = Family(
    "dropcast_samples_requested", "counter", "Samples asked for: T for each row", _SERVED
)
SAMPLES_USED = Family(
    "dropcast_samples_used", "counter", "Samples drawn and used, for each row", _SERVED
)
STD = Family(
    "dropcast_predictive_std_ratio", "histogram",
    "Predictive std of each row, in units of the target's std in training", _SERVED, RATIOS,
)  # fmt: skip
ENTROPY = Family(
    "dropcast_predictive_entropy_nats", "histogram", "Predictive entropy of each row",
    _SERVED, NATS,
)  # fmt: skip
ABSTENTIONS = Family(
    "dropcast_abstentions", "counter", "Rows whose decision was to abstain", _SERVED
)
FLAGGED = Family(
    "dropcast_flags", "counter", "Features that were flagged, by kind of flag",
    (*_SERVED, "flag"),
)  # fmt: skip
LOADED = Family(
    "dropcast_loaded_versions", "gauge", "API processes that hold this version in memory",
    ("model", "version"),
)  # fmt: skip

FEEDBACK = Family(
    "dropcast_feedback_entries", "counter", "Entries of feedback, by what became of them",
    ("outcome",),
)  # fmt: skip
FORGOTTEN = Family(
    "dropcast_feedback_unremembered_rows", "counter",
    "Rows whose answer was not remembered, as too many came at once or the database failed",
)  # fmt: skip

COUNTED = (
    REQUESTS, DURATION, HTTP_REQUESTS, INFERENCES, EXECUTIONS, COMPUTE, QUEUE, QUEUE_DEPTH,
    SAMPLES_ASKED, SAMPLES_USED, STD, ENTROPY, ABSTENTIONS, FLAGGED, LOADED,
    FEEDBACK, FORGOTTEN,
)  # fmt: skip

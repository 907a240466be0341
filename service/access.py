"""Which key opens which route: one table. What it does not name only an admin's key opens."""

from __future__ import annotations

import functools
import re
from enum import StrEnum

from starlette.routing import compile_path


class Scope(StrEnum):
    """What a key may do; `admin` may do everything."""

    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"


# The scopes of which one is enough; None where no key is needed.
Need = frozenset[Scope] | None

ANYONE: Need = None
PREDICT: Need = frozenset({Scope.PREDICT})
TRAIN: Need = frozenset({Scope.TRAIN})
ANY_KEY: Need = frozenset({Scope.PREDICT, Scope.TRAIN})
ADMIN: Need = frozenset({Scope.ADMIN})

MODEL = "/v1/models/{model}"
VERSION = MODEL + "/versions/{version}"
ALIAS = MODEL + "/labels/{alias}"
JOB = "/v1/training_jobs/{job}"
DATASET = "/v1/datasets/{dataset}"
OIP_MODEL = "/v2/models/{model}"
OIP_VERSION = OIP_MODEL + "/versions/{version}"

# By method and path, as the routers spell it.
RULES: dict[tuple[str, str], Need] = {
    # Whether the process is well: asked by what has no keys, and says nothing else.
    ("GET", "/health"): ANYONE,
    ("GET", "/health/live"): ANYONE,
    ("GET", "/health/ready"): ANYONE,
    ("GET", "/v2/health/live"): ANYONE,
    ("GET", "/v2/health/ready"): ANYONE,
    # The same in every installation: pages, which ask for what they show with a key.
    ("GET", "/"): ANYONE,
    ("GET", "/page/{name}"): ANYONE,
    ("GET", "/docs"): ANYONE,
    ("GET", "/docs/oauth2-redirect"): ANYONE,
    ("GET", "/openapi.json"): ANYONE,
    ("GET", "/static-offline-docs/{path:path}"): ANYONE,
    ("GET", "/v2"): ANYONE,
    ("GET", "/v2/"): ANYONE,
    # Which models there are, and how busy they are.
    ("GET", "/metrics"): ANY_KEY,
    ("GET", "/v1/models"): ANY_KEY,
    ("GET", MODEL): ANY_KEY,
    ("GET", VERSION): ANY_KEY,
    ("GET", OIP_MODEL): ANY_KEY,
    ("GET", OIP_VERSION): ANY_KEY,
    ("GET", OIP_MODEL + "/ready"): ANY_KEY,
    ("GET", OIP_VERSION + "/ready"): ANY_KEY,
    ("POST", "/v2/repository/index"): ANY_KEY,
    # Asking.
    **{
        ("POST", f"{address}:{verb}"): PREDICT
        for verb in ("predict", "uncertainty", "dropout")
        for address in (MODEL, VERSION, ALIAS)
    },
    ("POST", MODEL + ":feedback"): PREDICT,
    ("POST", OIP_MODEL + "/infer"): PREDICT,
    ("POST", OIP_VERSION + "/infer"): PREDICT,
    # Data and training. The weights themselves are more than their answers.
    ("POST", "/v1/datasets"): TRAIN,
    ("GET", "/v1/datasets"): TRAIN,
    ("GET", DATASET): TRAIN,
    ("DELETE", DATASET): TRAIN,
    ("POST", "/v1/training_jobs"): TRAIN,
    ("GET", "/v1/training_jobs"): TRAIN,
    ("GET", JOB): TRAIN,
    ("GET", JOB + "/events"): TRAIN,
    ("POST", JOB + ":cancel"): TRAIN,
    ("POST", JOB + ":resume"): TRAIN,
    ("GET", VERSION + "/artifact"): TRAIN,
    # What answers from now on, and what is gone for good.
    ("PUT", MODEL + "/aliases/{alias}"): ADMIN,
    ("DELETE", MODEL + "/aliases/{alias}"): ADMIN,
    ("POST", MODEL + "/versions"): ADMIN,
    ("DELETE", VERSION): ADMIN,
    # Verbs that no row above names.
    **{("POST", f"{address}:{{verb}}"): ADMIN for address in (MODEL, VERSION, ALIAS)},
}

# Answered whatever the load: who asks decides whether this process gets any more.
NEVER_REFUSED = ("/health", "/v2/health/", "/metrics")

# Paths whose need is remembered: those of hot requests are few.
MOST_KNOWN, LONGEST_KNOWN = 1024, 256

_PATTERNS = {path: compile_path(path)[0] for _, path in RULES}


def need_of(method: str, path: str) -> Need:
    """What a request needs, by the first row that matches."""
    asked = "GET" if method == "HEAD" else method
    find = _need_of if len(path) <= LONGEST_KNOWN else _need_of.__wrapped__
    return find(asked, path)


@functools.lru_cache(MOST_KNOWN)
def _need_of(method: str, path: str) -> Need:
    found = (
        need
        for (known, template), need in RULES.items()
        if known == method and _PATTERNS[template].match(path)
    )
    return next(found, ADMIN)


# What of a version's report is rows of the table, and so no more than training keys may read.
ROWS_OF_REPORT = frozenset({"excerpt", "residuals"})


def may_read_rows(scopes: frozenset[Scope] | None) -> bool:
    """Whether a key of these scopes reads training rows; None: no keys are needed."""
    return scopes is None or is_enough(scopes, TRAIN)


def is_enough(scopes: frozenset[Scope], need: Need) -> bool:
    """Whether a key of these scopes opens what needs that."""
    return need is None or Scope.ADMIN in scopes or bool(scopes & need)


def methods_at(path: str) -> list[str]:
    """The methods of what is at a path: of the row that names it most closely."""
    found = [known for known in RULES if _PATTERNS[known[1]].match(path)]
    closest = max((_literal(template) for _, template in found), key=len, default="")
    return sorted({method for method, template in found if _literal(template) == closest})


def _literal(template: str) -> str:
    return re.sub(r"\{[^}]*\}", "", template)

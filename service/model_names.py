"""What models may be called, where versions lie, and what is said of a model that is not there."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.errors import InvalidError, NotFoundError
from service.tables import Job, Version
from service.wording import near

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(model: str) -> None:
    """Nothing, if a model can be called so.

    Raises:
        InvalidError: it cannot.
    """
    if not NAME.fullmatch(model):
        message = (
            f"{model[:64]!r} cannot be a model's name: at most 64 letters, digits, dots, dashes "
            "and underscores, a letter or digit first"
        )
        raise InvalidError(message, errors=[{"loc": ["path", "model"], "msg": message}])


def artifact_name(model: str, version: int, sha256: str) -> str:
    """Of a version in the store. Its checksum in the name keeps two runs that believe to publish
    the same version out of each other's way."""
    return f"models/{model}/{version}-{sha256[:16]}"


def no_such_model(session: Session, model: str) -> NotFoundError:
    """The error that says there is no such model: what is near, or on its way."""
    job = _job_for(session, model) if NAME.fullmatch(model) else None
    if job is not None:
        done = job.progress["fraction"] if job.progress else 0.0
        state = "is queued" if job.status == "queued" else f"is running, {100 * done:.0f} % done"
        return NotFoundError(f"there is no model {model!r} yet: training job {job.id} {state}")
    names = list(session.scalars(sa.select(Version.model).distinct()))
    return NotFoundError(f"there is no model {model[:64]!r}{near(model, names)}")


def _job_for(session: Session, model: str) -> Job | None:
    """The job under way that will publish a version of that model."""
    query = sa.select(Job).where(Job.status.in_(("queued", "running")))
    query = query.where(Job.request["model"].as_string() == model)
    return session.scalar(query.order_by(Job.status.desc(), Job.number).limit(1))


def listed(numbers: list[int]) -> str:
    """The last of them, in words."""
    return ", ".join(map(str, numbers[-10:]))

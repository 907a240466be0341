"""Figures that are found out when they are asked for, from the database: jobs, data, aliases,
and how answers compare with the truth. They are the same whichever process is asked, and after
a restart."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models.live import Tally, live_figures
from service.database import Database, now
from service.tables import Alias, Dataset, Feedback, Job, Version

log = logging.getLogger(__name__)

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
JOB_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
SERVED = ("model", "version", "mode")
LIVE: Mapping[str, tuple[str, str]] = {
    "rmse": ("dropcast_live_rmse", "Root mean squared error, in the target's unit"),
    "mae": ("dropcast_live_mae", "Mean absolute error, in the target's unit"),
    "accuracy": ("dropcast_live_accuracy_ratio", "Share of labels that were right"),
    "nll": ("dropcast_live_nll_nats", "Mean negative log likelihood of the truth"),
    "crps": ("dropcast_live_crps", "Mean CRPS, in the target's unit"),
    "brier": ("dropcast_live_brier_score", "Mean Brier score"),
    "calibration_error": (
        "dropcast_live_calibration_error_ratio",
        "Mean gap between what probabilities say and what happens",
    ),
}


class Standing:
    """Families from the database; without it only `dropcast_database_up` at 0."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        families: list[Metric] = []
        is_up = True
        try:
            with self._database.read() as session:
                families += _jobs(session)
                families += _things(session)
                families += _live(session)
        except SQLAlchemyError as error:
            log.warning("figures of the database are not to be had: %s", error)
            families, is_up = [], False
        up = GaugeMetricFamily("dropcast_database_up", "Whether the database answers")
        up.add_metric([], float(is_up))
        return [up, *families]


def _jobs(session: Session) -> Iterator[Metric]:
    counts = dict(
        session.execute(sa.select(Job.status, sa.func.count()).group_by(Job.status)).all()
    )
    number = GaugeMetricFamily(
        "dropcast_training_jobs", "Training jobs, by state", labels=["status"]
    )
    for status in STATUSES:
        number.add_metric([status], counts.get(status, 0))
    yield number

    seconds = _seconds(session, Job.started_at, Job.finished_at)
    columns = [
        sa.func.count(),
        sa.func.sum(seconds),
        *(sa.func.sum(sa.case((seconds <= bound, 1), else_=0)) for bound in JOB_SECONDS),
    ]
    query = sa.select(Job.status, *columns).group_by(Job.status)
    duration = HistogramMetricFamily(
        "dropcast_training_job_duration_seconds",
        "Time from a job's first start to its end, by how it ended",
        labels=["status"],
    )
    ended = Job.started_at.is_not(None) & Job.finished_at.is_not(None)
    for status, count, total, *below in session.execute(query.where(ended)):
        bounds = zip(JOB_SECONDS, below, strict=True)
        buckets = [(str(bound), float(n)) for bound, n in bounds]
        duration.add_metric([status], [*buckets, ("+Inf", float(count))], float(total))
    yield duration

    oldest = GaugeMetricFamily(
        "dropcast_training_job_oldest_seconds",
        "How long the oldest job of that state has been in it",
        labels=["status"],
    )
    for status, since in (("queued", Job.created_at), ("running", Job.started_at)):
        first = session.scalar(sa.select(sa.func.min(since)).where(Job.status == status))
        oldest.add_metric([status], 0.0 if first is None else _age(first))
    yield oldest


def _things(session: Session) -> Iterator[Metric]:
    count, size = session.execute(sa.select(sa.func.count(), sa.func.sum(Dataset.bytes))).one()
    yield GaugeMetricFamily("dropcast_datasets", "Datasets stored", value=count)
    yield GaugeMetricFamily("dropcast_dataset_bytes", "Bytes of all datasets", value=int(size or 0))
    alias = GaugeMetricFamily(
        "dropcast_alias_version", "The version that an alias points to", labels=["model", "alias"]
    )
    for name, text, version in session.execute(sa.select(Alias.model, Alias.alias, Alias.version)):
        alias.add_metric([name, text], version)
    yield alias


def _live(session: Session) -> Iterator[Metric]:
    """Of the last rows with feedback of each version and mode, if the version still is."""
    of = (Feedback.model, Feedback.version, Feedback.mode)
    total = sa.func.sum
    query = (
        sa.select(
            *of,
            Feedback.coverage,
            Feedback.bin,
            sa.func.count().label("rows"),
            sa.func.count(Feedback.covered).label("promised"),
            total(sa.case((Feedback.covered.is_(True), 1), else_=0)).label("covered"),
            total(sa.func.abs(Feedback.error)).label("error"),
            total(Feedback.error * Feedback.error).label("squared_error"),
            total(Feedback.nll).label("nll"),
            total(Feedback.score).label("score"),
            total(Feedback.confidence).label("confidence"),
            sa.func.max(Feedback.created_at).label("last"),
            sa.func.max(Version.card["task"].as_string()).label("task"),
        )
        .join(Version, (Version.model == Feedback.model) & (Version.version == Feedback.version))
        .group_by(*of, Feedback.coverage, Feedback.bin)
    )
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for row in session.execute(query):
        groups.setdefault((row.model, str(row.version), row.mode), []).append(row)
    yield from _errors(groups)
    yield from _coverage(groups)


def _errors(groups: Mapping[tuple[str, str, str], Sequence[Any]]) -> Iterator[Metric]:
    rows = _served("dropcast_live_rows", "Rows with feedback that the live figures are of")
    last = _served(
        "dropcast_live_last_feedback_timestamp_seconds", "When the newest of them got feedback"
    )
    found = {key: _served(name, text) for key, (name, text) in LIVE.items()}
    for labels, parts in groups.items():
        rows.add_metric(labels, sum(part.rows for part in parts))
        last.add_metric(labels, max(part.last for part in parts).timestamp())
        tallies = [
            Tally(
                part.bin, part.rows, part.error, part.squared_error,
                part.nll or 0.0, part.score or 0.0, part.confidence or 0.0,
            )
            for part in parts
        ]  # fmt: skip
        is_regression = parts[0].task == "regression"
        for key, value in live_figures(tallies, is_regression=is_regression).items():
            found[key].add_metric(labels, value)
    yield from (rows, last, *found.values())


def _coverage(groups: Mapping[tuple[str, str, str], Sequence[Any]]) -> Iterator[Metric]:
    """By the coverage that was promised, to two digits: a client may ask for any number."""
    rows = _served("dropcast_live_coverage_rows", "Rows with an interval or a set", "coverage")
    live = _served(
        "dropcast_live_coverage_ratio", "Share of them that contained the truth", "coverage"
    )
    nominal = _served("dropcast_live_nominal_coverage_ratio", "What they promised", "coverage")
    for labels, parts in groups.items():
        promised: dict[str, list[float]] = {}
        for part in parts:
            if part.promised:
                text = f"{min(max(part.coverage, 0.01), 0.99):.2g}"
                sums = promised.setdefault(text, [0.0, 0.0, 0.0])
                sums[0] += part.promised
                sums[1] += part.covered
                sums[2] += part.promised * part.coverage
        for text, (count, covered, coverage) in promised.items():
            rows.add_metric([*labels, text], count)
            live.add_metric([*labels, text], covered / count)
            nominal.add_metric([*labels, text], coverage / count)
    yield from (rows, live, nominal)


def _served(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[*SERVED, *more])


def _seconds(session: Session, begin: Any, end: Any) -> Any:
    """From one moment to another, as a number in SQL."""
    if session.get_bind().dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", end - begin), sa.Float)
    return (sa.func.julianday(end) - sa.func.julianday(begin)) * 86_400.0


def _age(moment: dt.datetime) -> float:
    return max(0.0, (now() - moment).total_seconds())

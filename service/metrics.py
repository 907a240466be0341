"""What `/metrics` shows, and where it is counted.

Labels come from what exists, never from what a client writes: a model that is not there is
`_unknown`, whatever it was called.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, get_args

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service import families
from service.context import RequestContext
from service.figures import Cell, Figures
from service.observation import Observation, Observer
from service.schemas import Outcome

# No model can have this name.
UNKNOWN = "_unknown"


class Source(Protocol):
    """Families that are found out when they are asked for."""

    def collect(self) -> Iterable[Metric]:
        """Them, as they stand now."""


class Metrics(Observer):
    """Counts what the API processes do; all but `expose` belongs to the event loop's thread."""

    def __init__(self, folder: Path | None, sources: Sequence[Source] = ()) -> None:
        self._figures = Figures(folder)
        self._sources = sources
        self._served: dict[tuple[str, str, str], _Served] = {}
        self._ended: dict[tuple[str, ...], _Ended] = {}
        self._loaded: frozenset[tuple[str, int]] = frozenset()
        # There from the beginning, so that a rate sees the first of them.
        self._depth = self._figures.cell(families.QUEUE_DEPTH)
        self._forgotten = self._figures.cell(families.FORGOTTEN)
        self._told: dict[Outcome, Cell] = {
            outcome: self._figures.cell(families.FEEDBACK, outcome) for outcome in get_args(Outcome)
        }

    def request_ended(
        self, context: RequestContext, route: str, method: str, status: int, seconds: float
    ) -> None:
        """Counts an answer; `context` says whether it was one of inference."""
        method = method if method in families.METHODS else UNKNOWN
        key = (route, method, str(status), context.model, context.version, context.mode)
        ended = self._ended.get(key)
        if ended is None:
            ended = self._ended[key] = _Ended(self._figures, *key)
        ended.count(seconds)

    def answered(self, seen: Observation) -> None:
        key = (seen.model, str(seen.version), seen.mode)
        served = self._served.get(key)
        if served is None:
            served = self._served[key] = _Served(self._figures, key, seen)
        served.count(seen)

    def queue(self, depth: int) -> None:
        self._depth.set(depth)

    def told(self, outcomes: Mapping[Outcome, int]) -> None:
        """Counts entries of feedback by what became of them."""
        for outcome, count in outcomes.items():
            self._told[outcome].add(count)

    def forgot(self, rows: int) -> None:
        """Counts rows that could not be remembered for feedback."""
        self._forgotten.add(rows)

    def hold(self, versions: Collection[tuple[str, int]]) -> None:
        """These versions are in memory, and no others."""
        held = frozenset(versions)
        for model, version in held ^ self._loaded:
            cell = self._figures.cell(families.LOADED, model, str(version))
            cell.set(float((model, version) in held))
        self._loaded = held

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """The text of `/metrics` and its media type, as the client can read it."""
        encode, media_type = choose_encoder(accept)
        return encode(
            _Sources([self._figures, _Processes(self._figures), *self._sources])
        ), media_type

    def close(self) -> None:
        self._figures.close()


class _Ended:
    """The cells of one kind of answer."""

    def __init__(
        self,
        figures: Figures,
        route: str,
        method: str,
        status: str,
        model: str,
        version: str,
        mode: str,
    ) -> None:
        self._cells = [figures.cell(families.HTTP_REQUESTS, route, method, status)]
        self._duration = None
        if mode:
            labels = (model or UNKNOWN, version or UNKNOWN, mode, status)
            self._cells.append(figures.cell(families.REQUESTS, *labels))
            self._duration = figures.histogram(families.DURATION, *labels)

    def count(self, seconds: float) -> None:
        for cell in self._cells:
            cell.add()
        if self._duration is not None:
            self._duration.observe(seconds)


class _Served:
    """The cells of one version in one mode; all of them are there from its first answer on."""

    def __init__(self, figures: Figures, labels: tuple[str, str, str], seen: Observation) -> None:
        self._rows = figures.cell(families.INFERENCES, *labels)
        self._executions = figures.cell(families.EXECUTIONS, *labels)
        self._waited = figures.cell(families.QUEUE, *labels)
        self._took = figures.cell(families.COMPUTE, *labels)
        self._flags = {
            flag: figures.cell(families.FLAGGED, *labels, flag) for flag in families.FLAGS
        }
        self._is_sampled = seen.samples_asked > 0
        if self._is_sampled:
            self._asked = figures.cell(families.SAMPLES_ASKED, *labels)
            self._used = figures.cell(families.SAMPLES_USED, *labels)
        self._spread = None
        if seen.spread is not None:
            family = families.STD if seen.is_regression else families.ENTROPY
            self._spread = figures.histogram(family, *labels)
            self._abstentions = figures.cell(families.ABSTENTIONS, *labels)

    def count(self, seen: Observation) -> None:
        self._rows.add(seen.rows)
        self._executions.add(seen.executions)
        self._took.add(seen.took)
        self._waited.add(seen.waited)
        for flag, count in seen.flags.items():
            self._flags[flag].add(count)
        if self._is_sampled:
            self._asked.add(seen.rows * seen.samples_asked)
            self._used.add(seen.rows * seen.samples_used)
        if self._spread is not None and seen.spread is not None:
            self._spread.observe_all(seen.spread)
            if seen.abstained:
                self._abstentions.add(seen.abstained)


class _Sources(Collector):
    """All families, those of each source in turn."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        for source in self._sources:
            yield from source.collect()


class _Processes:
    """What the operating system says of each API process, and what is installed."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for slot, pid in self._figures.processes():
            reader = ProcessCollector("dropcast", pid=partial(int, pid), registry=None)
            for found in reader.collect():
                kept = merged.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                kept.samples += [
                    Sample(sample.name, {"process": slot}, sample.value) for sample in found.samples
                ]
        yield from merged.values()
        build = InfoMetricFamily("dropcast_build", "What is installed")
        build.add_metric(
            [],
            {
                "version": importlib.metadata.version("dropcast"),
                "torch": importlib.metadata.version("torch"),
                "python": platform.python_version(),
            },
        )
        yield build

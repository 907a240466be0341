"""What is computed with loaded versions: requests in, answers out.

Small work is done at once; larger work goes to a thread, so that the event loop never waits
long, and too much work is refused.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch

from models import kernel
from models.device import available_threads
from models.draw import Draw, choose, is_rowwise
from models.table import Encoded
from service import answers, context, picture
from service.caller import compute
from service.computation import (
    Instances,
    Predicted,
    Rows,
    Uncertain,
    draw_samples,
    draw_together,
    evaluate,
    evaluate_together,
)
from service.errors import InvalidError, OverloadedError
from service.loading import Address, LoadedVersion, Loader
from service.observation import Observation, Observer, observe
from service.registry import Registry
from service.schemas import DrawRequest, DropoutRequest, UncertaintyRequest
from service.settings import Settings
from service.together import Together
from service.work_limits import MASK_WORK, WorkLimits, too_much

__all__ = ["Address", "Inference"]

T = TypeVar("T")
A = TypeVar("A", bound=Predicted)

# Work, and rows, up to which a request is computed on the event loop: about 1 ms.
INLINE_WORK = 40_000_000
INLINE_ROWS = 64
# Of what is computed there in one pass, for requests that come at the same time: a few ms.
TOGETHER_WORK = 3 * INLINE_WORK
# Two, so that one long request does not hold up all others.
COMPUTE_THREADS = 2


class Inference:
    """Answers the inference routes; `threads` are those of one computation off the event loop,
    and `is_compiled` says whether small ones are computed by compiled code."""

    def __init__(
        self, settings: Settings, registry: Registry, observers: Sequence[Observer] = ()
    ) -> None:
        self._settings = settings
        self._limits = WorkLimits(settings)
        self._observers = observers
        self._loader = Loader(registry, device=settings.device, most=settings.max_loaded_versions)
        self.threads = settings.threads or max(1, available_threads() // settings.workers)
        self._threads = ThreadPoolExecutor(
            COMPUTE_THREADS, "compute", initializer=lambda: torch.set_num_threads(self.threads)
        )
        # This one, that of the event loop, alone: to wake others takes longer than small work.
        torch.set_num_threads(1)
        self._together = Together(TOGETHER_WORK)
        self._waiting = 0
        self.is_compiled = kernel.is_available()

    async def refresh(self) -> None:
        """`Loader.refresh`."""
        await self._loader.refresh()

    async def catch_up(self, model: str, version: int) -> None:
        """`Loader.catch_up`."""
        await self._loader.catch_up(model, version)

    async def check_model(self, model: str) -> None:
        """`Loader.check_model`."""
        await self._loader.check_model(model)

    @property
    def held(self) -> list[tuple[str, int]]:
        """`Loader.held`."""
        return self._loader.held

    def name(self, mode: str, address: Address) -> None:
        """Tells the request's context what is asked, as far as it exists, before its body is
        read."""
        request = context.current()
        if request is not None:
            request.mode = mode
            request.model, request.version = self._loader.identify(address)

    async def find(self, address: Address) -> LoadedVersion:
        """`Loader.find`."""
        loaded = await self._loader.find(address)
        request = context.current()
        if request is not None:
            request.model, request.version = loaded.model, str(loaded.version)
        return loaded

    def versions(self, model: str) -> list[int]:
        """`Loader.versions`."""
        return self._loader.versions(model)

    def index(self) -> list[tuple[str, int, bool]]:
        """`Loader.index`."""
        return self._loader.index()

    @property
    def is_full(self) -> bool:
        """Whether what does not fit on the event loop would be refused."""
        return self._waiting >= self._settings.max_waiting

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def predict(self, address: Address, rows: Rows) -> dict[str, Any]:
        """The answer of `:predict`.

        Raises:
            NotFoundError: the address names nothing.
            InvalidError: too many rows.
            EncodeError: rows that do not fit the schema.
        """
        loaded = await self.find(address)
        return await self.evaluate(loaded, rows, answers.predicted)

    async def uncertainty(self, address: Address, request: UncertaintyRequest) -> dict[str, Any]:
        """The answer of `:uncertainty`.

        Raises:
            NotFoundError: the address names nothing.
            InvalidError: more rows, samples or work than the limits allow.
            EncodeError: rows that do not fit the schema.
            NotStochasticError: the model has no dropout.
            EstimatorError: samples are asked of an estimator that draws none.
            NonFiniteError: an answer would not be a finite number.
            CoverageError: more coverage than the calibration can vouch for.
        """
        started = time.monotonic()
        loaded = await self.find(address)
        # Before the work, not after it: whether this coverage can be had at all.
        loaded.artifact.calibration.finest.quantile(request.coverage)
        return await self.draw(
            loaded,
            Instances(request.instances),
            request,
            answers.uncertain,
            started=started,
            coverage=request.coverage,
        )

    async def evaluate(
        self, loaded: LoadedVersion, rows: Rows, form: Callable[[Predicted], T]
    ) -> T:
        """Eval mode for rows of any wire format, in the form that it wants; raises as `predict`
        does."""
        n_rows = self._limits.count(loaded, rows)
        work = n_rows * loaded.plan.products_per_row
        if _is_small(work, n_rows):
            together = partial(evaluate_together, loaded)
            return await self._answer_soon(loaded, rows, work, ("eval",), together, form)
        return await self._answer(lambda: evaluate(loaded, rows), form)

    async def draw(
        self,
        loaded: LoadedVersion,
        rows: Rows,
        request: DrawRequest,
        form: Callable[[Uncertain], T],
        *,
        started: float,
        coverage: float | None = None,
    ) -> T:
        """MC mode in the same way, for a request that came at `started` (`time.monotonic()`);
        `coverage` is that of intervals or sets, if the form has them. Raises as `uncertainty`
        does."""
        deadline = None if request.deadline_ms is None else started + request.deadline_ms / 1e3
        draw = Draw(
            n_samples=request.n_samples,
            seed=secrets.randbelow(2**53) if request.seed is None else request.seed,
            estimator=request.estimator,
            quantiles=tuple(request.quantiles),
            tolerance=request.tolerance,
            deadline=deadline,
            keep_samples=request.return_samples,
        )
        # What `auto` stands for is what has to be done.
        planned = choose(loaded.plan, loaded.artifact.schema.target, draw)
        n_rows = self._limits.count(loaded, rows)
        work = self._limits.check_draw(loaded, n_rows, planned)
        if request.seed is None:
            loaded = loaded.for_a_fresh_seed
        if _is_small(work, n_rows):
            # Answers of one coverage are made alike.
            kind = draw if is_rowwise(loaded.plan, planned) else id(draw)
            together = partial(draw_together, loaded, draw=draw, coverage=coverage, planned=planned)
            key = ("mc_dropout", kind, coverage)
            return await self._answer_soon(loaded, rows, work, key, together, form)
        return await self._answer(lambda: draw_samples(loaded, rows, draw, coverage), form)

    async def dropout(self, address: Address, request: DropoutRequest) -> dict[str, Any]:
        """The answer of `:dropout`; raises as `uncertainty` does."""
        if (request.instance is None) == (request.instances is None):
            message = "give one row: as instance, or as the only one of instances"
            raise InvalidError(message, errors=[{"loc": ["instance"], "msg": message}])
        instance = request.instances[0] if request.instances else request.instance
        if request.sample >= request.n_samples:
            message = f"of {request.n_samples} samples the last has the number n_samples - 1"
            raise too_much("sample", message)
        loaded = await self.find(address)
        seed = request.seed
        if seed is None:
            seed, loaded = secrets.randbelow(2**53), loaded.for_a_fresh_seed
        self._limits.check_picture(loaded, request)
        # The masks are drawn twice: to compute with, and to be counted.
        work = self._limits.check_work(loaded, 1, request.n_samples, mask_work=2 * MASK_WORK)
        if _is_small(work, 1):
            return picture.look(loaded, request, instance, seed)
        return await self._in_thread(lambda: picture.look(loaded, request, instance, seed))

    async def _answer_soon(
        self,
        loaded: LoadedVersion,
        rows: Rows,
        work: int,
        key: tuple[Hashable, ...],
        together: Callable[[Sequence[Encoded]], Sequence[A]],
        form: Callable[[A], T],
    ) -> T:
        """What is computed on the event loop, with what else is asked for in the same moment; in
        that form. The observers are told of it."""
        asked = time.perf_counter()
        encoded = rows.encode(loaded.artifact.schema)

        def compute(all_asked: Sequence[Encoded]) -> list[tuple[A, float, int]]:
            began = time.perf_counter()
            computed = together(all_asked)
            return [(one, began, int(i == 0)) for i, one in enumerate(computed)]

        computed, began, executions = await self._together.ask(
            (id(loaded), *key), encoded, work, compute
        )
        seen = observe(computed, asked, began, executions)
        formed = form(computed)
        self._tell(asked, seen)
        return formed

    async def _answer(self, compute: Callable[[], A], form: Callable[[A], T]) -> T:
        """What is computed in a thread, in that form; the observers are told of it."""
        asked = time.perf_counter()

        def answer() -> tuple[T, Observation]:
            began = time.perf_counter()
            computed = compute()
            seen = observe(computed, asked, began)
            return form(computed), seen

        formed, seen = await self._in_thread(answer)
        self._tell(asked, seen)
        return formed

    def _tell(self, asked: float, seen: Observation) -> None:
        request = context.current()
        if request is not None:
            request.computing = (asked, asked + seen.waited, seen.ended)
        for observer in self._observers:
            observer.answered(seen)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """What it gives, unless too much waits already."""
        if self.is_full:
            message = f"{self._waiting} requests wait for computation already"
            raise OverloadedError(message, retry_after_seconds=1)
        self._change_queue(1)
        try:
            return await compute(self._threads, function, self._settings.request_seconds)
        finally:
            self._change_queue(-1)

    def _change_queue(self, by: int) -> None:
        self._waiting += by
        for observer in self._observers:
            observer.queue(self._waiting)


def _is_small(work: int, n_rows: int) -> bool:
    """Whether it is computed on the event loop."""
    return work <= INLINE_WORK and n_rows <= INLINE_ROWS

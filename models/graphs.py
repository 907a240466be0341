"""Small draws on a GPU as one launch: CUDA graphs.

A draw is some thirty launches, and a small one takes longer to launch than to compute. So what
it launches is captured once for each shape, and replayed. What is captured is the function that
draws without graphs: it stays the definition, and the way out wherever a capture fails.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from models.cancellation import cancellable

log = logging.getLogger(__name__)

# Graphs of one network: each has buffers of its own, and memory that all graphs of a GPU share.
MOST_GRAPHS = 64
# Samples are rounded up to at least so many.
LEAST_SAMPLES = 16
# A graph that differs by more from the function that it captured is not used.
RELATIVE, ABSOLUTE = 1e-4, 1e-5

# Fills outputs from inputs.
Draw = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
# A process may capture one graph at a time, and graphs that share memory run one at a time.
_TURN = threading.Lock()


class Recorder(Protocol):
    """Captures what a function launches."""

    def turn(self) -> AbstractContextManager[None]:
        """Within it nothing else is captured or replayed."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Another way to do the same work again, on the same memory; an error if there is none."""
        ...


@dataclass(frozen=True)
class _Graph:
    """A captured draw, and the memory that it reads and writes."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    replay: Callable[[], None]


class Graphs:
    """The graphs of one network, of the shapes that were asked for last; for several threads.

    They read the weights where these lie, so they belong to the plans that share these weights.
    """

    def __init__(self, recorder: Recorder, most: int = MOST_GRAPHS) -> None:
        self._recorder = recorder
        self._most = most
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._has_failed = False

    def __len__(self) -> int:
        return len(self._graphs)

    def run(
        self,
        key: Hashable,
        draw: Draw,
        activations: Tensor,
        masks: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        """`draw([activations, *masks], outputs)` of tensors (N, …), (S, …) and (S, N, …), by the
        graph of a shape that is at least as large. `key` names all else that the draw depends on.

        Rows and samples that fill up a shape are zeros, or left from before: none meets another.
        """
        inputs = (activations, *masks)
        n_samples, n_rows = outputs[0].shape[:2]
        samples, rows = round_up(n_samples, LEAST_SAMPLES), round_up(n_rows)
        key = (key, samples, rows)
        if not self._has_failed:
            with self._recorder.turn():
                if key in self._graphs:
                    self._graphs.move_to_end(key)
                elif not self._has_failed:
                    rooms = [_room(activations, rows), *(_room(mask, samples) for mask in masks)]
                    _copy(inputs, rooms)
                    filled = [_room(output, samples, rows) for output in outputs]
                    self._capture(key, draw, rooms, filled)
                graph = self._graphs.get(key)
                if graph is not None:
                    _copy(inputs, graph.inputs)
                    graph.replay()
                    for output, found in zip(outputs, graph.outputs, strict=True):
                        output.copy_(found[:n_samples, :n_rows])
                    return
        draw(inputs, outputs)

    def _capture(
        self, key: Hashable, draw: Draw, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        """Keeps a graph whose first replay gives what the draw gives, or else none ever."""

        def work() -> None:
            draw(inputs, outputs)

        with cancellable(lambda: False):
            work()
            expected = [output.clone() for output in outputs]
            try:
                replay = self._recorder.capture(work)
                for output in outputs:
                    output.fill_(math.nan)
                replay()
                if not all(map(_is_close, outputs, expected)):
                    raise RuntimeError("the graph gives other numbers than what it captured")
            except Exception:
                log.warning("draws go on without CUDA graphs", exc_info=True)
                self._has_failed = True
                self._graphs.clear()
                return
        self._graphs[key] = _Graph(inputs, outputs, replay)
        if len(self._graphs) > self._most:
            self._graphs.popitem(last=False)


class Gpu:
    """Captures on one GPU, in thread-local mode: other threads go on meanwhile.

    Captures have a stream of their own, on which the work is done once before, so that libraries
    have what they allocate at first use. Nothing that a graph allocates outlives its replay, so
    graphs share that memory; turns follow each other on the GPU, too, whatever the streams.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._newest: Callable[[], torch.cuda.CUDAGraph | None] = lambda: None

    @contextmanager
    def turn(self) -> Iterator[None]:
        with _TURN:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        graph, other = torch.cuda.CUDAGraph(), self._newest()
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        # A capture that fails leaves its stream the current one: the outer `with` does not.
        with torch.cuda.stream(self._stream):
            work()
            current.wait_stream(self._stream)
            with torch.cuda.graph(
                graph,
                # Of a graph that lives: memory whose graphs are all gone cannot be shared.
                pool=None if other is None else other.pool(),
                stream=self._stream,
                capture_error_mode="thread_local",
            ):
                work()
        self._newest = weakref.ref(graph)
        return graph.replay


@cache
def _gpu(device: torch.device) -> Gpu:
    return Gpu(device)


def graphs_for(device: torch.device) -> Graphs | None:
    """For the plans of a network there; none on the CPU, which launches nothing."""
    if device.type != "cuda":
        return None
    with _TURN:
        return Graphs(_gpu(device))


def round_up(n: int, least: int = 1) -> int:
    """The next power of two."""
    return max(least, 1 << (n - 1).bit_length())


@torch.inference_mode(mode=False)
def _room(tensor: Tensor, *sizes: int) -> Tensor:
    """Zeros like a tensor, with other sizes in its first dimensions."""
    return tensor.new_zeros((*sizes, *tensor.shape[len(sizes) :]))


def _copy(given: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    for tensor, room in zip(given, to, strict=True):
        room[: len(tensor)].copy_(tensor)


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, RELATIVE, ABSOLUTE, equal_nan=True)

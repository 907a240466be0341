"""Ways to capture that need no GPU, and networks that go the way of one with them."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from models import MLP, MLPConfig
from models.cancellation import cancellable
from models.graphs import Graphs
from models.mask_cache import MaskCache
from models.sampling import Plan, make_plan

KINDS = ("bernoulli", "gaussian", "concrete", "dropconnect")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class Fake:
    """Captures nothing: a replay does the work again."""

    def __init__(self) -> None:
        self.captures = 0
        self.replays = 0
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._turn:
            yield

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        assert self._turn.locked()
        self.captures += 1

        def replay() -> None:
            assert self._turn.locked()
            self.replays += 1
            with cancellable(lambda: False):  # a GPU looks at nothing
                work()

        return replay


class Failing(Fake):
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        super().capture(work)
        raise RuntimeError("operation not permitted when stream is capturing")


class Wrong(Fake):
    """Its replays give nothing, or what was given before, or a number that is a little off."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        super().capture(work)
        if self._how == "idle":
            return lambda: None

        def replay() -> None:
            work()
            inspect.getclosurevars(work).nonlocals["outputs"][0][0, 0, 0] += 1e-2

        return replay


class Remembering(Fake):
    """Its replays hold buffers alone, as those of a GPU do."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        outputs = inspect.getclosurevars(work).nonlocals["outputs"]
        found = [output.clone() for output in outputs]

        def replay() -> None:
            for output, one in zip(outputs, found, strict=True):
                output.copy_(one)

        return replay


def on_the_way_of_a_gpu(
    net: MLP, fake: Fake | None = None, most: int = 64, masks: MaskCache | None = None
) -> Plan:
    graphs = Graphs(Fake() if fake is None else fake, most)
    return replace(make_plan(net, masks=masks), kernel=None, graphs=graphs)


def network(kind: str = "bernoulli", head: str = "regression", seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    outputs = 3 if head == "classification" else 1
    return MLP(MLPConfig(6, outputs, (20, 15), dropout=kind, p=(0.1, 0.4), input_p=0.2, head=head))


def plain(net: MLP) -> Plan:
    return replace(make_plan(net), kernel=None)

"""The same network asked for over HTTP elsewhere: in the service that users would write, under
uvicorn alone, and in other servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import nan
from pathlib import Path
from statistics import median

from benchmarks import regression
from benchmarks.interleaved import interleave, ratio
from benchmarks.load import LoadError, offer
from benchmarks.local_service import LocalService
from benchmarks.peers.environments import Environments, NotInstallableError
from benchmarks.peers.servers import NotServingError
from benchmarks.peers.serving import BARE, NAIVE, PEERS, Peer, Served
from benchmarks.serving import DIFFERENT_ROWS, ask
from benchmarks.verdict import Row

ROUNDS = 5
SECONDS = 1.5


def rows(home: Path, weights: Path, environments: Environments) -> Iterator[Row]:
    """Every row of this page; what has to be installed for it stays."""
    with LocalService(home, worker=False) as service:
        predict = Served(service.port, ask("predict"))
        sampled = Served(service.port, ask("uncertainty", n_samples=100))
        with _serve(NAIVE, weights, environments) as naive:
            for clients, target in ((1, 25.0), (16, 100.0)):
                yield _row(
                    f"MC T=100, one row: against {NAIVE.title}", sampled, naive, target, clients
                )
        with _serve(BARE, weights, environments) as bare:
            yield _row(f"`:predict`, one row: against {BARE.title}", predict, bare, 0.33, 16)
        for peer in PEERS:
            what = f"`:predict`, one row: against {peer.title}"
            try:
                with _serve(peer, weights, environments) as theirs:
                    yield _row(what, predict, theirs, 2.5, 16)
            except (NotInstallableError, NotServingError, LoadError) as error:
                yield Row(what, nan, 2.5, at_most=False, note=f"{type(error).__name__}: {error}")


def _serve(peer: Peer, weights: Path, environments: Environments) -> AbstractContextManager[Served]:
    return peer.serve(environments, weights, regression.make_rows(DIFFERENT_ROWS))


def _row(what: str, ours: Served, theirs: Served, target: float, clients: int) -> Row:
    """Requests a second, ours over theirs, with so many clients; the note tells of one, too."""
    measured = _measure(ours, theirs, clients)
    note = _told(*measured)
    if clients > 1:
        note += f"; one client: {_told(*_measure(ours, theirs, 1))}"
    several = f"{clients} clients" if clients > 1 else "1 client"
    return Row(f"{what}, {several}", ratio(*measured), target, at_most=False, note=note)


def _measure(ours: Served, theirs: Served, clients: int) -> tuple[list[float], list[float]]:
    def asking(served: Served) -> Callable[[], float]:
        return lambda: (
            offer([served.port], served.requests, clients=clients, seconds=SECONDS).per_second
        )

    found = interleave({"ours": asking(ours), "theirs": asking(theirs)}, ROUNDS)
    return found["ours"], found["theirs"]


def _told(ours: list[float], theirs: list[float]) -> str:
    return f"{median(ours):,.0f} against {median(theirs):,.0f} a second"

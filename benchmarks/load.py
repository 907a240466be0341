"""Load from a process of its own that costs the machine little: sockets that stay open, requests
written beforehand, nothing parsed but where an answer ends.

Closed-loop: each client sends its next request when its last one is answered.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).parents[1]
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNK = 1 << 18
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """What came of it: the seconds of each answer after the warm-up, over how long, and how many
    answers there were with those before; `processor_seconds` are the server's for all of them,
    `own_seconds` the processor time of sending and receiving."""

    latencies: Sequence[float]
    seconds: float
    answers: int = 0
    failure: str = ""
    processor_seconds: float = math.nan
    own_seconds: float = math.nan

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        return self.quantile(0.5)

    @property
    def processor_per_answer(self) -> float:
        """Seconds."""
        return self.processor_seconds / self.answers

    @property
    def own_per_answer(self) -> float:
        """Seconds."""
        return self.own_seconds / self.answers

    def quantile(self, level: float) -> float:
        """The least latency that a share `level` of the answers does not exceed."""
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(level * len(ordered)) - 1)]


def write_request(
    path: str, body: bytes, headers: Sequence[str] = (), method: str = "POST"
) -> bytes:
    """A whole request as bytes, on a connection that stays open."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def offer(
    ports: Sequence[int],
    requests: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    warm_up: float = 0.3,
    pause: float = 0.0,
    server: int | None = None,
) -> Load:
    """Load from a process of its own, see `generate`; `server` is the process whose processor
    time is asked for.

    Raises:
        LoadError: an answer was not 200, or there was none.
    """
    before = processor_seconds(server)
    load = start(
        ports, requests, clients=clients, seconds=seconds, warm_up=warm_up, pause=pause
    ).result()
    return replace(load, processor_seconds=processor_seconds(server) - before)


class LoadError(Exception):
    """A measurement that is none; the text is the first answer that was not right."""


class Offered:
    """Load that is under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def result(self) -> Load:
        """Waits for its end; raises as `offer` does."""
        out, _ = self._process.communicate()
        load = Load(**json.loads(out))
        if load.failure or not load.latencies:
            raise LoadError(load.failure or "no answer in time")
        return load


def start(ports: Sequence[int], requests: Sequence[bytes], **options: float) -> Offered:
    """The same, and does not wait for its end."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "benchmarks.load"],  # it needs no packages
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    texts = [base64.b64encode(request).decode() for request in requests]
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ports": ports, "requests": texts, **options}).encode())
    process.stdin.close()
    process.stdin = None
    return Offered(process)


def processor_seconds(process: int | None) -> float:
    """What a process has used so far, with all its threads; not a number without one."""
    if process is None:
        return math.nan
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def generate(
    ports: Sequence[int],
    requests: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    warm_up: float,
    pause: float = 0.0,
) -> Load:
    """Sends the requests in turn over so many connections, spread over the ports, and
    pauses so long after each answer. Ends early at the first answer that is not 200."""
    turn = cycle(requests)
    opened = {
        c.socket.fileno(): c for c in (_Client(ports[i % len(ports)]) for i in range(clients))
    }
    poll = select.epoll()
    own_before, began = time.process_time(), time.perf_counter()
    now = began
    counted_from, until = began + warm_up, began + warm_up + seconds
    latencies: list[float] = []
    answers = 0
    for descriptor, client in opened.items():
        poll.register(descriptor, select.EPOLLIN)
        client.send(next(turn))
    while now < until:
        # An answer that has not come by then will not.
        waiting = poll.poll(PATIENCE_SECONDS)
        if not waiting:
            return Load(latencies, seconds, answers, "a server that does not answer")
        for descriptor, _ in waiting:
            client = opened[descriptor]
            answer = client.receive()
            if answer is None:
                continue
            now = time.perf_counter()
            if not answer.startswith(b"HTTP/1.1 200"):
                failure = answer[:500].decode(errors="replace") or "the server hung up"
                return Load(latencies, seconds, answers, failure)
            answers += 1
            if counted_from <= now < until:
                latencies.append(now - client.sent)
            if pause:
                time.sleep(pause)
            client.send(next(turn))
    for client in opened.values():
        client.socket.close()
    return Load(latencies, seconds, answers, own_seconds=time.process_time() - own_before)


class _Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self._received = b""

    def send(self, request: bytes) -> None:
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The answer, once it is whole; what there is of it, if the server hangs up."""
        chunk = self.socket.recv(CHUNK)
        self._received += chunk
        if chunk and not is_whole(self._received):
            return None
        answer, self._received = self._received, b""
        return answer


def is_whole(answer: bytes) -> bool:
    """Whether an answer is all there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    found = LENGTH.search(answer, 0, end)
    if found is not None:
        return len(answer) >= end + 4 + int(found[1])
    return answer.endswith(b"\r\n0\r\n\r\n")


def main() -> None:
    """The process: reads what to do, and prints what came of it."""
    wanted = json.load(sys.stdin)
    requests = [base64.b64decode(text) for text in wanted.pop("requests")]
    load = generate(requests=requests, **wanted)
    json.dump(load.__dict__, sys.stdout)


if __name__ == "__main__":
    main()

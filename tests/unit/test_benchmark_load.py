"""The load generator against a server that counts what it is asked, and the figures made of it."""

import contextlib
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.interleaved import interleave, ratio
from benchmarks.load import Load, LoadError, generate, is_whole, offer, write_request

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class CountingServer(socketserver.ThreadingTCPServer):
    """Answers each request after a while, in two pieces, and counts the bodies."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, seconds: float = 0.0, answer: bytes = ANSWER) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.seconds, self.answer = seconds, answer
        self.bodies: Counter[bytes] = Counter()
        self.connections = 0


class _Connection(socketserver.StreamRequestHandler):
    server: CountingServer

    def handle(self) -> None:
        self.server.connections += 1
        # A client that has measured enough does not wait for its last answer.
        with contextlib.suppress(ConnectionError):
            self.answer()

    def answer(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.server.bodies[self.rfile.read(length)] += 1
            time.sleep(self.server.seconds)
            self.wfile.write(self.server.answer[:10])
            self.wfile.flush()
            self.wfile.write(self.server.answer[10:])


@pytest.fixture
def serve() -> Iterator[type[CountingServer]]:
    """Makes servers that run until the test ends."""
    servers: list[CountingServer] = []

    def make(*args: object) -> CountingServer:
        server = CountingServer(*args)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def test_every_request_is_sent_as_written_and_counted_once(serve):
    server = serve()
    requests = [write_request("/", body) for body in (b"a", b"bb", b"ccc")]
    load = generate([server.server_address[1]], requests, clients=4, seconds=0.3, warm_up=0.0)
    # Those that were sent last may not have been read before the connections closed.
    assert load.answers <= sum(server.bodies.values()) <= load.answers + 4
    assert load.answers - 4 <= len(load.latencies) <= load.answers
    assert load.per_second == pytest.approx(len(load.latencies) / 0.3)
    assert set(server.bodies) == {b"a", b"bb", b"ccc"}
    assert max(server.bodies.values()) - min(server.bodies.values()) <= 4
    assert server.connections == 4


def test_clients_are_spread_over_the_ports(serve):
    servers = [serve(), serve()]
    ports = [server.server_address[1] for server in servers]
    generate(ports, [write_request("/", b"a")], clients=6, seconds=0.1, warm_up=0.0)
    assert [server.connections for server in servers] == [3, 3]


def test_latency_is_what_the_server_takes_and_the_warm_up_does_not_count(serve):
    server = serve(0.02)
    load = generate(
        [server.server_address[1]], [write_request("/", b"a")], clients=1, seconds=0.3, warm_up=0.2
    )
    assert load.p50 >= 0.02
    assert len(load.latencies) <= 16
    assert load.answers > len(load.latencies)


def test_an_answer_that_is_not_200_ends_the_measurement(serve):
    server = serve(0.0, b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\nno")
    port = server.server_address[1]
    with pytest.raises(LoadError, match="422 No"):
        offer([port], [write_request("/", b"a")], clients=1, seconds=5.0)
    assert sum(server.bodies.values()) == 1


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length:0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", True),
    ],
)
def test_where_an_answer_ends(answer, whole):
    assert is_whole(answer) is whole


def test_quantiles_are_latencies_that_were_measured():
    load = Load([0.5, 0.1, 0.4, 0.2, 0.3], seconds=2.0)
    assert (load.p50, load.quantile(0.99), load.quantile(0.2)) == (0.3, 0.5, 0.1)
    assert load.per_second == 2.5
    assert Load([0.2, 0.1], seconds=1.0).p50 == 0.1


def test_ways_take_turns_and_ratios_are_taken_within_a_round():
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert interleave(ways, 2) == {"a": [1, 4], "b": [2, 3]}
    assert order == ["a", "b", "b", "a"]
    # A machine that became ten times slower in the second round changes nothing.
    assert ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0

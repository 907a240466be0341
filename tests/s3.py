"""A server that speaks S3, of moto."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def bucket(log: Path) -> Iterator[str]:
    """The address of an empty bucket, reached by the environment as it is meanwhile."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=file,
            stderr=file,
        )
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    httpx.put(f"http://127.0.0.1:{port}/dropcast").raise_for_status()
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    assert server.poll() is None
                    time.sleep(0.1)
            yield "s3://dropcast/some/prefix"
        finally:
            server.kill()
            server.wait()

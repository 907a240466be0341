"""An API and its workers as processes that can be killed, and a client that insists."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
CONCRETE = ROOT / "service" / "examples" / "concrete.csv"
PENGUINS = ROOT / "service" / "examples" / "penguins.csv"
ENDED = ("succeeded", "failed", "cancelled")


class Fleet:
    """Processes that share a home and a database; settings as in the environment, in lower case."""

    def __init__(self, home: Path, database_url: str | None = None, **settings: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = home
        self.log = home.parent / f"{home.name}.log"
        chosen = {"home": home, "port": self.port, "examples": "false", "threads": 1}
        chosen |= {"log_level": "warning", **settings}
        if database_url is not None:
            chosen["database_url"] = database_url
        self._environment = {
            **os.environ,
            **{f"DROPCAST_{name.upper()}": str(value) for name, value in chosen.items()},
        }
        self._arguments: dict[str, list[str]] = {}
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)

    def start_api(self, *, with_worker: bool = False) -> None:
        """As the member `api`."""
        self._start("api", ["serve"] if with_worker else ["serve", "--no-worker"])

    def start_worker(self, name: str) -> None:
        """As the member of that name."""
        self._start(name, ["worker"])

    def revive(self) -> None:
        """Starts members again that have ended."""
        for name, process in list(self.members.items()):
            if process.poll() is not None:
                self._start(name, self._arguments[name])

    def send(self, name: str, number: int) -> None:
        self.members[name].send_signal(number)

    def forget(self, name: str) -> None:
        """Waits for the end of a member that is not to be revived."""
        self.members.pop(name).wait(timeout=30)

    def children(self, name: str) -> list[int]:
        """Process ids of a member's children."""
        parent = self.members[name].pid
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"PPid:\t{parent}\n" in (folder / "status").read_text():
                    found.append(int(folder.name))
        return found

    def close(self) -> None:
        for name, process in self.members.items():
            for pid in [process.pid, *self.children(name)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            process.terminate()
        for process in self.members.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.client.close()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer, however often one has to ask for it."""
        for _ in self.patience(120):
            with contextlib.suppress(httpx.TransportError):
                response = self.client.request(method, path, **more)
                if response.status_code != 503:
                    return response
        raise AssertionError("unreachable")

    def patience(self, seconds: float) -> Iterator[None]:
        """Moments to look again, until the time is up.

        Raises:
            TimeoutError: it is.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield
            time.sleep(0.1)
        raise TimeoutError(f"not within {seconds} s: {self.log.read_text()[-4000:]}")

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> float:
        """Seconds until the condition held."""
        began = time.monotonic()
        for _ in self.patience(seconds):
            if condition():
                break
        return time.monotonic() - began

    def upload(self, file: Path) -> str:
        """The id of the dataset."""
        headers = {"Content-Type": "text/csv"}
        path = f"/v1/datasets?name={file.name}"
        return str(self.ask("POST", path, content=file.read_bytes(), headers=headers).json()["id"])

    def submit(self, key: str, **request: Any) -> str:
        """The id of the job, of one however often it was asked for."""
        headers = {"Idempotency-Key": key}
        response = self.ask("POST", "/v1/training_jobs", json=request, headers=headers)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/v1/training_jobs/{job}").json())

    def act(self, job: str, verb: str) -> dict[str, Any]:
        """Cancels or resumes it."""
        return dict(self.ask("POST", f"/v1/training_jobs/{job}:{verb}").json())

    def events(self, job: str) -> list[dict[str, Any]]:
        path = f"/v1/training_jobs/{job}/events?order=asc&limit=1000"
        return list(self.ask("GET", path).json()["data"])

    def runner(self, job: str) -> str | None:
        """The worker that runs it now."""
        path = f"/v1/training_jobs/{job}/events?order=desc&limit=1000"
        events = self.ask("GET", path).json()["data"]
        last = next(event["data"] for event in events if event["type"] == "status")
        return last["worker"] if last["status"] == "running" else None

    def epoch(self, job: str) -> int:
        return int((self.job(job)["progress"] or {"epoch": 0})["epoch"])

    def finish(self, job: str, seconds: float = 120.0) -> dict[str, Any]:
        """The job once it has ended."""
        self.wait_until(lambda: self.job(job)["status"] in ENDED, seconds)
        return self.job(job)

    def weights(self, model: str) -> bytes:
        """Of the model's first version, out of its artifact."""
        response = self.ask("GET", f"/v1/models/{model}/versions/1/artifact")
        assert response.status_code == 200, response.text
        with zipfile.ZipFile(io.BytesIO(response.content)) as artifact:
            (name,) = (n for n in artifact.namelist() if n.endswith("weights.safetensors"))
            return artifact.read(name)

    def _start(self, name: str, arguments: list[str]) -> None:
        self._arguments[name] = arguments
        environment = self._environment
        if arguments == ["worker"]:
            environment = {**environment, "DROPCAST_WORKER_ID": name}
        with self.log.open("ab") as log:
            self.members[name] = subprocess.Popen(
                [sys.executable, "-m", "service.cli", *arguments],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

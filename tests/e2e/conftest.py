"""The real processes, on a port of this machine's loopback, started as `make serve` does."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from service import cli

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
JOB_SECONDS = 300.0
API_ALONE = (sys.executable, "-m", "service.cli", "serve", "--no-worker")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`dropcast serve` with its worker; state lives in `home`, so that it can be restarted."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home = home
        self.port = free_port()
        self.log = home.parent / f"{home.name}.log"
        self.environment = {
            **os.environ,
            "DROPCAST_HOME": str(home),
            "DROPCAST_PORT": str(self.port),
            "DROPCAST_EXAMPLES": "false",
            "DROPCAST_DRAIN_SECONDS": "0",
            "DROPCAST_THREADS": "1",  # as in tests/conftest.py
            **{f"DROPCAST_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One run of the `dropcast` command in the same home."""
        return subprocess.run(
            [sys.executable, "-m", "service.cli", *arguments],
            env=self.environment | {"COLUMNS": "160"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(
        self, command: Sequence[str] = (sys.executable, "-m", "service.cli", "serve")
    ) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until(self._answers, READY_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=40)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.client.close()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the service ended: {self.log.read_text()[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health/ready").status_code == 200
        return False

    def upload(self, path: Path, media_type: str = "text/csv") -> dict:
        response = self.client.post(
            f"/v1/datasets?name={path.name}",
            content=path.read_bytes(),
            headers={"content-type": media_type},
        )
        assert response.status_code in (200, 201), response.text
        return response.json()

    def submit(self, **request: object) -> dict:
        response = self.client.post("/v1/training_jobs", json=request)
        assert response.status_code == 202, response.text
        return response.json()

    def job(self, job_id: str) -> dict:
        return self.client.get(f"/v1/training_jobs/{job_id}").json()

    def finish(self, job_id: str) -> dict:
        """The job once it has ended."""
        ended = ("succeeded", "failed", "cancelled")
        self.wait_until(lambda: self.job(job_id)["status"] in ended, JOB_SECONDS)
        return self.job(job_id)

    def ask(self, path: str, **body: object) -> dict:
        response = self.client.post(f"/v1/models/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def children(self) -> list[int]:
        """Process ids of the worker and its trainers, from /proc."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                marker = f"DROPCAST_PORT={self.port}\0".encode()
                pid = int(stat.parent.name)
                if marker in stat.read_bytes() and pid != getattr(self.process, "pid", None):
                    found.append(pid)
        return found

    def pid_of(self, what: str) -> int | None:
        """The child whose command line has that word."""
        for pid in self.children():
            with contextlib.suppress(OSError):
                if what.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes services; what is left of them is killed at the end of the test."""
    made: list[Service] = []

    def make(**settings: object) -> Service:
        made.append(Service(tmp_path / f"home{len(made)}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the `dropcast` command for a service's home as `Service.command`, but in this process,
    which has imported already what a new one needs seconds for."""

    def run_here(one: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
        for name, value in (one.environment | {"COLUMNS": "160"}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["dropcast", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run()
        code = ended.value.code
        stdout, stderr = capsys.readouterr()
        if isinstance(code, str):
            code, stderr = 1, f"{stderr}{code}\n"
        return subprocess.CompletedProcess(arguments, code or 0, stdout, stderr)

    return run_here


@pytest.fixture(scope="session")
def first_light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service at its first start, once both example models answer; started by `make serve`
    where make has installed it."""
    one = Service(tmp_path_factory.mktemp("first") / "home", examples="true")
    del one.environment["DROPCAST_THREADS"]
    if (ROOT / ".venv/serve.installed").exists():
        one.start(["make", "serve", f"PORT={one.port}"])
    else:
        one.start()
    try:
        jobs = one.client.get("/v1/training_jobs").json()["data"]
        assert {job["model"] for job in jobs} == {"concrete", "penguins"}
        for job in jobs:
            finished = one.finish(job["id"])
            assert finished["status"] == "succeeded", json.dumps(finished["error"])
        yield one
    finally:
        one.close()


PENGUINS = ROOT / "service" / "examples" / "penguins.csv"
CONCRETE = ROOT / "service" / "examples" / "concrete.csv"
PENGUIN = {
    "island": "Biscoe",
    "bill_length_mm": 46.5,
    "bill_depth_mm": 17.9,
    "flipper_length_mm": 192,
    "body_mass_g": 3500,
    "sex": "FEMALE",
}

"""Two real processes, and a real Prometheus that scrapes one of them with the files of deploy/."""

import datetime as dt
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.recipe import Recipe
from service.database import Database, now
from service.settings import Settings
from service.tables import Job
from tests.e2e.conftest import API_ALONE, ROOT, Service, free_port
from tests.http.conftest import (
    FAST,
    SPECIES_ROW,
    STRENGTH_ROW,
    publish,
    species_table,
    strength_table,
)

RULES = ROOT / "deploy/prometheus/dropcast.rules.yml"
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/dropcast.json"
PROMETHEUS_SECONDS = 40.0

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not installed here",
)


def total(one: Service, name: str, **labels: str) -> float:
    """The sum over the series with these labels, as that process tells it."""
    text = one.client.get("/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """Two API processes of one home that count together, as behind one address; the home has two
    models, and a job that took 42 seconds."""
    folder = tmp_path_factory.mktemp("pair")
    home = folder / "home"
    publish(home, "strength", strength_table(), Recipe("strength", hidden=(16,), training=FAST))
    publish(home, "species", species_table(), Recipe("species", hidden=(16,), training=FAST))
    add_job(home)
    processes = [
        Service(home, metrics_folder=folder / "figures", log_format="json", threads=1)
        for _ in range(2)
    ]
    for i, one in enumerate(processes):
        one.log = folder / f"{i}.log"
    try:
        for one in processes:
            one.start(API_ALONE)
        yield processes
    finally:
        for one in processes:
            one.close()


def add_job(home: Path) -> None:
    database = Database(Settings(home=home).database)
    with database.write() as session:
        session.add(
            Job(
                id="job_1", model="strength", status="succeeded", dataset="ds_1", request={},
                created_at=now(), started_at=now() - dt.timedelta(seconds=42), finished_at=now(),
            )
        )  # fmt: skip
    database.close()


def tell_all(one: Service) -> None:
    """Asks both models in both modes, and tells what was true."""
    for model, row, truth in (
        ("strength", STRENGTH_ROW, {"value": 31.0}), ("species", SPECIES_ROW, {"label": "Gentoo"}),
    ):  # fmt: skip
        for verb in ("predict", "uncertainty"):
            body = {"instances": [row] * 3}
            answer = one.client.post(f"/v1/models/{model}:{verb}", json=body)
            request_id = answer.headers["x-request-id"]
            entries = [{"request_id": request_id, "row": row, **truth} for row in range(3)]
            told = one.client.post(f"/v1/models/{model}:feedback", json={"feedback": entries})
            assert told.json()["counted"] == 3, told.text


def test_any_process_answers_for_all_of_them(pair: list[Service]) -> None:
    one, other = pair
    for process, times in ((one, 4), (other, 7)):
        for _ in range(times):
            process.ask("strength:predict", instances=[STRENGTH_ROW] * 2)
    asked = {"model": "strength", "version": "1", "mode": "eval"}
    for process in pair:
        assert total(process, "dropcast_requests_total", **asked) == 11
        assert total(process, "dropcast_inferences_total", **asked) == 22
        assert total(process, "dropcast_request_duration_seconds_count", **asked) == 11
        assert total(process, "dropcast_loaded_versions", model="strength") == 2
        assert total(process, "dropcast_training_jobs", status="succeeded") == 1
        seconds = total(process, "dropcast_training_job_duration_seconds_sum", status="succeeded")
        assert seconds == pytest.approx(42, abs=0.1)
        assert total(process, "dropcast_training_job_duration_seconds_bucket", le="60.0") == 1
        assert total(process, "dropcast_training_job_duration_seconds_bucket", le="15.0") == 0
        assert total(process, "dropcast_process_resident_memory_bytes") > 2e8

    # Killed, it takes nothing with it but what it held; in its place the next one counts on.
    other.stop(signal.SIGKILL)
    assert total(one, "dropcast_requests_total", **asked) == 11
    assert total(one, "dropcast_loaded_versions", model="strength") == 1
    other.start(API_ALONE)
    other.ask("strength:predict", instances=[STRENGTH_ROW])
    for process in pair:
        assert total(process, "dropcast_requests_total", **asked) == 12
    assert len(list((Path(other.environment["DROPCAST_METRICS_FOLDER"])).glob("*.lock"))) == 2


def test_log_lines_are_objects(pair: list[Service]) -> None:
    one = pair[0]
    one.client.get("/v1/models", headers={"X-Request-Id": "look-for-me"})
    one.wait_until(lambda: "look-for-me" in one.log.read_text(), 5)
    entries = [json.loads(line) for line in one.log.read_text().splitlines()]
    (found,) = [entry for entry in entries if entry.get("request_id") == "look-for-me"]
    assert (found["path"], found["status"], found["level"]) == ("/v1/models", 200, "info")


@needs_prometheus
def test_the_rules_and_the_configuration_are_valid() -> None:
    for command in (
        ["check", "rules", RULES.name],
        ["check", "config", CONFIG.name],
        ["test", "rules", "dropcast.rules.test.yml"],
    ):
        ran = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


class Prometheus:
    """A real one, that scrapes that process every second."""

    def __init__(self, folder: Path, target: Service) -> None:
        shutil.copy(RULES, folder)
        config = CONFIG.read_text().replace("api:8000", f"127.0.0.1:{target.port}")
        (folder / CONFIG.name).write_text(config.replace("_interval: 15s", "_interval: 1s"))
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10.0)
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={folder / CONFIG.name}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def get(self, path: str, **query: str) -> list | dict:
        response = self.client.get(path, params=query)
        assert response.status_code == 200, f"{query}: {response.text}"
        return response.json()["data"]

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PROMETHEUS_SECONDS
        while True:
            try:
                if condition():
                    return
            except (httpx.TransportError, AssertionError):
                pass  # It is starting.
            assert time.monotonic() < deadline, Path(self.log.name).read_text()[-3000:]
            time.sleep(0.1)

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


@needs_prometheus
def test_prometheus_knows_all_that_dashboard_and_alerts_use(
    pair: list[Service], tmp_path: Path
) -> None:
    tell_all(pair[0])
    prometheus = Prometheus(tmp_path, pair[1])
    try:
        prometheus.wait_until(
            lambda: prometheus.get("query", query="dropcast_live_brier_score")["result"]
        )
        known = set(prometheus.get("label/__name__/values"))
        text = RULES.read_text() + DASHBOARD.read_text()
        used = set(re.findall(r"dropcast_[a-z_]+", text)) - {"dropcast_version"}
        assert len(used) > 30
        assert used <= known

        def healthy() -> bool:
            groups = prometheus.get("rules")["groups"]
            return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

        prometheus.wait_until(healthy)
        for expression in expressions():
            assert prometheus.get("query", query=expression)["resultType"] == "vector"
        alerts = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}
        assert not alerts & {"DropcastDown", "DropcastDatabaseDown", "DropcastErrors"}
    finally:
        prometheus.close()


def expressions() -> Iterator[str]:
    """Those of the dashboard, for everything that can be chosen there."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "1m")
            yield re.sub(r"\$(model|version|mode)", ".*", text)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells

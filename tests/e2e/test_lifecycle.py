"""A client's whole story with the real processes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import API_ALONE, CONCRETE, PENGUIN, PENGUINS, Service

QUICK = {"hidden": [32, 32], "epochs": 20}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that leave it as it is; each has models of its own."""
    one = Service(tmp_path_factory.mktemp("shared") / "home", checkpoint_seconds=0)
    one.start()
    yield one
    one.close()


def test_upload_train_follow_predict_ask_roll_back_restart_ask_again(
    service: Callable[..., Service],
) -> None:
    one = service()
    one.start()
    dataset = one.upload(PENGUINS)
    assert dataset["rows"] == 344
    assert {c["name"]: c["missing"] for c in dataset["columns"]}["sex"] == 11

    request = {"model": "birds", "dataset": dataset["id"], "target": "species"}
    request |= {"calibration": "split", "hyperparameters": QUICK}
    job = one.submit(**request)
    events = follow(one, job["id"])
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    kinds = [event["type"] for _, event in events]
    assert kinds.count("epoch") == 20
    statuses = [event["data"]["status"] for _, event in events if event["type"] == "status"]
    assert statuses == ["queued", "running", "succeeded"]
    losses = [e["data"]["validation_loss"] for _, e in events if e["type"] == "epoch"]
    assert losses[-1] < losses[0]

    finished = one.job(job["id"])
    assert finished["status"] == "succeeded"
    assert finished["started_at"] <= finished["finished_at"]
    assert finished["progress"] == {
        "epoch": 20, "epochs": 20, "fraction": 1.0, "eta_seconds": 0.0,
    }  # fmt: skip
    assert finished["result"]["model"] == "birds"
    assert finished["result"]["version"] == 1
    assert finished["result"]["promoted"] is True
    assert finished["metrics"]["mc_mode"]["accuracy"] > 0.9

    predicted = one.ask("birds:predict", instances=[PENGUIN])
    assert predicted["version"] == 1
    assert set(predicted["predictions"][0]["probabilities"]) == {"Adelie", "Chinstrap", "Gentoo"}
    asked = one.ask("birds:uncertainty", instances=[PENGUIN], seed=4)
    assert asked["predictions"][0]["entropy"] > 0

    request |= {"hyperparameters": QUICK | {"dropout": {"p": 0.4}}, "promote": "always", "seed": 1}
    second = one.submit(**request)
    assert one.finish(second["id"])["result"]["version"] == 2
    assert one.ask("birds:predict", instances=[PENGUIN])["version"] == 2
    changed = one.ask("birds:uncertainty", instances=[PENGUIN], seed=4)
    assert changed["predictions"] != asked["predictions"]

    one.client.put("/v1/models/birds/aliases/production", json={"version": 1})
    assert one.ask("birds:uncertainty", instances=[PENGUIN], seed=4) == asked

    assert one.stop() == 0
    assert not one.children()
    one.start(API_ALONE)
    assert one.ask("birds:uncertainty", instances=[PENGUIN], seed=4) == asked
    assert one.ask("birds:predict", instances=[PENGUIN]) == predicted
    model = one.client.get("/v1/models/birds").json()
    assert (model["aliases"], len(model["versions"])) == ({"production": 1}, 2)
    assert one.stop() == 0


def follow(one: Service, job_id: str) -> list[tuple[int, dict]]:
    """All events of a live stream, broken off once and taken up with Last-Event-ID."""
    events: list[tuple[int, dict]] = []
    for limit in (5, 10_000):
        headers = {"Accept": "text/event-stream"}
        if events:
            headers["Last-Event-ID"] = str(events[-1][0])
        path = f"/v1/training_jobs/{job_id}/events"
        with one.client.stream("GET", path, headers=headers, timeout=120) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    events.append((event["id"], event))
                if len(events) >= limit:
                    break
    return events


def test_predict_gives_the_same_bits_while_a_job_trains(shared: Service) -> None:
    one = shared
    dataset = one.upload(CONCRETE)["id"]
    request = {"model": "bits", "dataset": dataset, "target": "compressive_strength"}
    request["calibration"] = "split"
    one.finish(one.submit(**request, hyperparameters=QUICK)["id"])
    row = [540, 0, 0, 162, 2.5, 1040, 676, 28]

    def answers() -> set[bytes]:
        return {
            one.client.post(f"/v1/models/bits:{verb}", json={"instances": [row] * 40}).content
            for verb in ("predict", "uncertainty")
        }

    before = answers()
    assert len(before) == 2
    job = one.submit(**request, hyperparameters={"epochs": 5000}, promote="never")
    one.wait_until(lambda: one.job(job["id"])["progress"] is not None, 60)
    during = [answers() for _ in range(30)]
    assert one.job(job["id"])["status"] == "running", "the job was to outlast the questions"
    assert all(found == before for found in during)
    one.client.post(f"/v1/training_jobs/{job['id']}:cancel")
    assert one.finish(job["id"])["status"] == "cancelled"


def test_a_job_killed_between_its_folds_ends_in_the_same_calibration(shared: Service) -> None:
    one = shared
    request = {
        "dataset": one.upload(PENGUINS)["id"], "target": "species",
        "hyperparameters": QUICK | {"epochs": 10},
    }  # fmt: skip

    def folds(job: str) -> list[int]:
        path = f"/v1/training_jobs/{job}/events?order=asc&limit=1000"
        listed = one.client.get(path).json()["data"]
        return [event["data"]["fold"] for event in listed if "fold" in event["data"]]

    calm = one.submit(**request, model="calm-folds")["id"]
    card = one.finish(calm)["metrics"]
    assert folds(calm) == [2, 3, 4, 5, 6]
    assert card["out_of_fold"]["rows"] == 344
    job = one.submit(**request, model="killed-folds")["id"]
    one.wait_until(lambda: 2 in folds(job), 60)
    kill(one, "worker")
    assert one.finish(job)["status"] == "succeeded"
    assert folds(job)[-5:] == [2, 3, 4, 5, 6]
    for part in ("weights", "calibration"):
        assert part_of(one.home, "killed-folds", part) == part_of(one.home, "calm-folds", part)
    calibration = one.client.get("/v1/models/killed-folds").json()["versions"][0]["calibration"]
    assert (calibration["method"], calibration["folds"], calibration["rows"]) == ("cross", 6, 344)


def test_a_search_survives_kill_9(shared: Service) -> None:
    """Killed between its first trial and its last: the same choice, and the same weights."""
    one = shared
    dataset = one.upload(CONCRETE)["id"]
    request = {
        "dataset": dataset, "target": "compressive_strength",
        "calibration": "split",
        "hyperparameters": {"hidden": [16], "epochs": 10, "dropout": {"p": "auto"}},
    }  # fmt: skip

    def trials(job: str) -> list[int]:
        path = f"/v1/training_jobs/{job}/events?order=asc&limit=1000"
        events = one.client.get(path).json()["data"]
        return [event["data"]["trial"] for event in events if "trial" in event["data"]]

    calm = one.submit(**request, model="calm-search")["id"]
    assert one.finish(calm)["status"] == "succeeded"
    job = one.submit(**request, model="killed-search")["id"]
    one.wait_until(lambda: trials(job) != [], 60)
    kill(one, "trainer")
    assert len(trials(job)) < 8, "the search was to be cut short"
    assert one.finish(job)["status"] == "succeeded"
    assert trials(calm) == list(range(1, 9))
    # Of the moment of the kill a trial may be told twice.
    assert sorted(set(trials(job))) == trials(calm)
    assert part_of(one.home, "killed-search", "weights") == part_of(
        one.home, "calm-search", "weights"
    )
    card = one.client.get("/v1/models/killed-search/versions/1").json()
    assert len(card["provenance"]["search"]["trials"]) == 8


def kill(one: Service, victim: str) -> None:
    pid = one.pid_of("service.trainer" if victim == "trainer" else "--with-parent")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def part_of(home: Path, model: str, part: str) -> bytes:
    (path,) = (home / "models" / model).glob(f"1-*/{part}.safetensors")
    return path.read_bytes()


def test_a_job_that_cannot_work_ends_with_a_reason(shared: Service) -> None:
    one = shared
    same = one.home.parent / "same.csv"
    same.write_text("a,y\n" + "".join(f"{i % 7},3\n" for i in range(100)))
    request = {"dataset": one.upload(same)["id"], "target": "y", "task": "classification"}
    ended = one.finish(one.submit(model="none", **request)["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "one_class")
    assert "two classes" in ended["error"]["message"]
    assert one.client.get("/v1/models/none").status_code == 404


def test_the_worse_of_two_is_not_promoted(shared: Service) -> None:
    one = shared
    dataset = one.upload(CONCRETE)["id"]
    request = {"model": "poor", "dataset": dataset, "target": "compressive_strength"}
    request["calibration"] = "split"
    good = one.finish(one.submit(**request, hyperparameters=QUICK)["id"])
    assert good["result"]["promoted"] is True
    poor = one.finish(one.submit(**request, hyperparameters=QUICK | {"epochs": 1})["id"])
    assert (poor["result"]["version"], poor["result"]["promoted"]) == (2, False)
    assert "on the same 154 held-out rows that neither has" in poor["result"]["promotion"]
    compared = poor["result"]["comparison"]
    assert (compared["version"], compared["rows"], compared["is_fair"]) == (1, 154, True)
    assert compared["own"] > compared["other"]
    other = {"model": "poor", "dataset": one.upload(PENGUINS)["id"], "target": "species"}
    other |= {"calibration": "split", "hyperparameters": QUICK | {"epochs": 1}}
    ended = one.finish(one.submit(**other)["id"])
    assert (ended["result"]["version"], ended["result"]["promoted"]) == (3, False)
    assert "predicts other things" in ended["result"]["promotion"]
    assert one.client.get("/v1/models/poor").json()["aliases"] == {"production": 1}

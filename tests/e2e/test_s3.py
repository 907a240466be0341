"""API and worker with datasets and versions in S3 (moto's server), and nothing of them at home."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import PENGUIN, PENGUINS, Service
from tests.s3 import bucket


def ask(one: Service) -> list[dict]:
    return [one.ask(f"birds:{verb}", instances=[PENGUIN]) for verb in ("predict", "uncertainty")]


def test_upload_train_ask_and_ask_again_from_the_store_alone(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    with bucket(tmp_path / "moto.log") as store:
        one = service(storage=store)
        one.start()
        job = one.submit(
            model="birds", dataset=one.upload(PENGUINS)["id"], target="species",
            calibration="split", hyperparameters={"hidden": [16], "epochs": 5},
        )  # fmt: skip
        ended = one.finish(job["id"])
        assert ended["status"] == "succeeded", ended["error"]
        assert not (one.home / "datasets").exists()
        assert not (one.home / "models").exists()
        answers = [
            one.ask(f"birds:{verb}", instances=[PENGUIN]) for verb in ("predict", "uncertainty")
        ]
        artifact = one.client.get("/v1/models/birds/versions/1/artifact").content
        assert one.stop() == 0
        shutil.rmtree(one.home / "cache")
        one.start()
        assert one.client.get("/v1/models/birds/versions/1/artifact").content == artifact
        again = [
            one.ask(f"birds:{verb}", instances=[PENGUIN]) for verb in ("predict", "uncertainty")
        ]
        assert again == answers
        assert one.stop() == 0

"""Who listens where the network reaches asks for keys."""

import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.conftest import API_ALONE, Service

Here = Callable[..., subprocess.CompletedProcess[str]]


def test_serve_refuses_to_listen_beyond_loopback_without_keys(
    service: Callable[..., Service], here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    refused = here(service(host="0.0.0.0"), "serve", "--no-worker")
    assert refused.returncode == 1
    assert "dropcast keys create" in caplog.text
    assert "DROPCAST_KEYS=off" in caplog.text


def test_a_key_made_at_the_terminal_lets_in(service: Callable[..., Service], here: Here) -> None:
    one = service(keys="required")
    made = here(one, "keys", "create", "test", "--scope", "predict", "--scope", "train")
    assert made.returncode == 0, made.stderr
    one.start(API_ALONE)
    assert one.client.get("/v1/models").status_code == 401
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert one.client.get("/v1/models", headers=key).status_code == 200
    assert one.client.get("/v1/training_jobs", headers=key).status_code == 200
    assert one.client.delete("/v1/models/m/versions/1", headers=key).status_code == 403

"""Who listens where the network reaches asks for keys."""

import sys
from collections.abc import Callable

from tests.e2e.conftest import Service


def test_serve_refuses_to_listen_beyond_loopback_without_keys(
    service: Callable[..., Service],
) -> None:
    refused = service(host="0.0.0.0").command("serve", "--no-worker")
    assert refused.returncode == 1
    assert "dropcast keys create" in refused.stderr
    assert "DROPCAST_KEYS=off" in refused.stderr


def test_a_key_made_at_the_terminal_lets_in(service: Callable[..., Service]) -> None:
    one = service(keys="required")
    made = one.command("keys", "create", "test", "--scope", "predict", "--scope", "train")
    assert made.returncode == 0, made.stderr
    one.start((sys.executable, "-m", "service.cli", "serve", "--no-worker"))
    assert one.client.get("/v1/models").status_code == 401
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert one.client.get("/v1/models", headers=key).status_code == 200
    assert one.client.get("/v1/training_jobs", headers=key).status_code == 200
    assert one.client.delete("/v1/models/m/versions/1", headers=key).status_code == 403

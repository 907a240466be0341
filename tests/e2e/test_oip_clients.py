"""tritonclient, unchanged, on the real service; KServe's and MLServer's clients bring so much that
`python -m tests.clients` gives them environments of their own."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, Service


@pytest.mark.skipif(
    importlib.util.find_spec("tritonclient") is None, reason="tritonclient is not installed here"
)
def test_tritonclient_calls_both_modes(first_light: Service) -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "tests/clients/triton_calls.py", str(first_light.client.base_url)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["calls"]) == 9

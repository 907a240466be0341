"""What the document says holds on the real service: a few hundred of schemathesis's requests.

More of them: `python -m service.cli serve --no-worker`, and then as below with
`--max-examples 100 --phases coverage,fuzzing,stateful`: 5,000 in ten minutes.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from models.ingest import read_table
from models.recipe import Recipe
from models.training_run import TrainingOptions
from tests.e2e.conftest import API_ALONE, CONCRETE, ROOT, Service
from tests.http.conftest import publish

HOOKS = "tests.e2e.schemathesis_hooks"
CONFIG = ROOT / "tests" / "e2e" / "schemathesis.toml"


def test_the_document_holds(service: Callable[..., Service], tmp_path: Path) -> None:
    """No 5xx but an honest 503, and nothing that the document does not say."""
    one = service(max_work=10**9)
    recipe = Recipe(
        "compressive_strength", hidden=(16,), training=TrainingOptions(epochs=1, batch_size=64)
    )
    publish(one.home, "concrete", read_table(CONCRETE, "csv"), recipe)
    one.start(API_ALONE)
    document = f"http://127.0.0.1:{one.port}/openapi.json"
    ran = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG),
            "run", document, "--checks", "all", "--phases", "fuzzing",
            "--max-examples", "2", "--seed", "1", "--generation-database", "none",
            "--request-timeout", "30", "--no-color",
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]
    (cases,) = re.findall(r"(\d+) generated", ran.stdout)
    assert int(cases) > 60

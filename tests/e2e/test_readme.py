"""Every command of the README, in order, in one shell; every output compared.

Figures depend a little on the processor that trained the example models: texts and structure
have to agree exactly, numbers roughly.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Service

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
MARK = "===== end of command ====="
# What differs from run to run.
VARIES = {"request_id"}


def steps() -> list[tuple[str, str]]:
    """Commands with the output shown below them."""
    found = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip()))
    return found


def assert_alike(shown: object, got: object, place: str = "") -> None:
    """The same structure, the same texts, numbers within 30 % or 0.15."""
    assert type(shown) is type(got), place
    if isinstance(shown, dict):
        assert list(shown) == list(got), place
        for key in shown:
            if key not in VARIES:
                assert_alike(shown[key], got[key], f"{place}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(got), place
        for i, (a, b) in enumerate(zip(shown, got, strict=True)):
            assert_alike(a, b, f"{place}[{i}]")
    elif isinstance(shown, float):
        assert got == pytest.approx(shown, rel=0.3, abs=0.15), place
    else:
        assert shown == got, place


def test_the_readme_shows_what_it_says() -> None:
    """It has the three curl calls on its first screen, and outputs to compare."""
    first_screen = "\n".join(README.splitlines()[:70])
    assert first_screen.count("$ curl") == 3
    assert sum(bool(output) for _, output in steps()) >= 10


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
def test_commands_and_outputs(first_light: Service, tmp_path: Path) -> None:
    script = ["set -u", f"cd {ROOT}"]
    for command, _ in steps():
        local = command.replace("localhost:8000", f"127.0.0.1:{first_light.port}")
        local = local.replace("/tmp/", f"{tmp_path}/")
        script += [local, f"echo; echo '{MARK}' $?"]
    ran = subprocess.run(
        ["bash"], input="\n".join(script), env=first_light.environment | {"COLUMNS": "100"},
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    outputs = re.split(rf"{MARK} (\d+)\n", ran.stdout)
    for i, (command, shown) in enumerate(steps()):
        got, code = outputs[2 * i].strip(), outputs[2 * i + 1]
        assert code == "0", f"{command}\n{got}\n{ran.stderr}"
        if shown.startswith("{"):
            assert_alike(json.loads(shown), json.loads(got))
        elif shown:
            assert got.replace(f"{tmp_path}/", "/tmp/") == shown, command
    run_python(tmp_path)


def run_python(tmp_path: Path) -> None:
    """The README's Python, with the artifact that its commands have fetched."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict = {}
    exec(code.replace("/tmp/", f"{tmp_path}/"), scope)
    (value,) = re.findall(r'"predictions":\[\{"value":([\d.]+)\}', README)
    scope["artifact"].network.eval()
    got = scope["artifact"].decode(scope["artifact"].network(scope["x"])).item()
    assert got == pytest.approx(float(value), rel=0.3)


def test_files_and_anchors_that_it_names_exist() -> None:
    for path in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in ("deploy/gpu.yml", "docker-compose.yml", "service/examples/README.md"):
        assert path in README
        assert (ROOT / path).exists()

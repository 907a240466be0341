"""`python -m tests.clients`: every client, in an environment of its own, on a real service.

The environments are made with pip where they are not there yet, and kept. A client that cannot
be installed here is skipped, and said to be. Ends with what each one called.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.e2e.conftest import ROOT, Service

# The packages, as they were when last checked.
CLIENTS = {
    "triton": "tritonclient[http]==2.73.0",
    "kserve": "kserve==0.21.0",
    "mlserver": "mlserver==1.7.1",
}


EXAMPLES = ("concrete", "penguins")


def is_there(service: Service, model: str) -> bool:
    return service.client.get(f"/v2/models/{model}/ready").status_code == 200


def install(environment: Path, package: str) -> str | None:
    """The reason why it could not be installed, or None."""
    if not (environment / "bin" / "python").exists():
        venv.create(environment, with_pip=True)
    ran = subprocess.run(
        [environment / "bin" / "pip", "install", "--quiet", package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ran.stderr.strip().splitlines()[-1] if ran.returncode else None


def call(environment: Path, client: str, url: str) -> dict | None:
    """What it called, or None after what went wrong was shown."""
    script = Path(__file__).with_name(f"{client}_calls.py")
    ran = subprocess.run(
        [environment / "bin" / "python", script, url],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if ran.returncode:
        sys.stderr.write(ran.stderr)
        return None
    return json.loads(ran.stdout)


def show(said: dict) -> None:
    sys.stdout.write(f"{said['client']} {said['version']}\n")
    sys.stdout.writelines(f"  ok  {done}\n" for done in said["calls"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--environments", type=Path, default=ROOT / "var" / "clients")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "home", examples="true")
        try:
            service.start()
            service.wait_until(lambda: all(is_there(service, name) for name in EXAMPLES), 600.0)
            for client in arguments.clients or CLIENTS:
                environment = arguments.environments / client
                reason = install(environment, CLIENTS[client])
                if reason is not None:
                    sys.stdout.write(f"skipped {client}: it cannot be installed here: {reason}\n")
                    continue
                said = call(environment, client, str(service.client.base_url))
                if said is None:
                    failed.append(client)
                else:
                    show(said)
        finally:
            service.close()
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

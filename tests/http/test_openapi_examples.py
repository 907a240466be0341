"""What `/docs` fills in answers when it is tried as it stands, on a service that has started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.ingest import read_table
from models.recipe import Recipe
from models.training_run import TrainingOptions
from service import examples
from service.database import Database
from service.datasets import Datasets
from service.jobs import Jobs
from service.registry import Registry
from service.settings import Settings
from tests.http.conftest import publish

pytestmark = pytest.mark.anyio

CONCRETE = Path(examples.__file__).parent / "concrete.csv"
# Refused of a job that has ended, of what is in use, and of an answer that was never given.
MAY_REFUSE = {
    ("post", "cancel"): 409,
    ("post", "resume"): 409,
    ("delete", "{version}"): 409,
    ("delete", "{dataset}"): 409,
    ("post", "feedback"): 404,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home after its first start: the examples' datasets and jobs, and a model that is soon
    trained."""
    settings = Settings(home=tmp_path / "home")
    database = Database(settings.database)
    database.migrate()
    datasets = Datasets(database, settings.home)
    examples.submit(Registry(database, settings.home), datasets, Jobs(database, most_queued=9))
    database.close()
    recipe = Recipe("compressive_strength", hidden=(8,), training=TrainingOptions(epochs=1))
    publish(settings.home, "concrete", read_table(CONCRETE, "csv"), recipe)
    return settings.home


def operations(document: dict) -> list[tuple[str, str, dict]]:
    """All of them, those that take something away last."""
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda one: one[0] == "delete")


def bodies(operation: dict) -> list[tuple[str | None, Any]]:
    """Each example of a body, with its type; one empty body where none is due, and nothing
    where it is a file of bytes."""
    content = operation.get("requestBody", {}).get("content")
    if content is None:
        return [(None, None)]
    found = [(kind, body["example"]) for kind, body in content.items() if "example" in body]
    is_binary = all(body["schema"].get("format") == "binary" for body in content.values())
    assert found or is_binary, operation["operationId"]
    return found


async def test_every_example_answers(serve: Callable) -> None:
    client: httpx.AsyncClient = (await serve()).client
    document = (await client.get("/openapi.json")).json()
    for method, path, operation in operations(document):
        places = {}
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                places[parameter["name"]] = parameter["example"]
            else:
                assert not parameter["required"], (path, parameter["name"])
        for kind, body in bodies(operation):
            sent = {"content": body} if isinstance(body, str) else {"json": body}
            sent = {} if kind is None else sent | {"headers": {"Content-Type": kind}}
            answer = await client.request(method.upper(), path.format(**places), **sent)
            assert str(answer.status_code) in operation["responses"], (path, answer.text)
            last = (method, path.rpartition("/")[2].rpartition(":")[2])
            is_expected = answer.is_success or answer.status_code == MAY_REFUSE.get(last)
            assert is_expected, (path, answer.text)

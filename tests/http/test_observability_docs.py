"""docs/observability.md lists the metrics that there are, with their labels, and no others."""

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.families import COUNTED
from tests.http.conftest import STRENGTH_ROW
from tests.http.test_metrics import ask

pytestmark = pytest.mark.anyio

TEXT = (Path(__file__).parents[2] / "docs/observability.md").read_text()
LISTED = {
    name.removesuffix("_total"): set(
        re.findall(r"`(\w+)`", labels.replace("served", "`model` `version` `mode`"))
    )
    for name, labels in re.findall(r"^\| `(dropcast_\w+)` \| (.*?) \|", TEXT, re.MULTILINE)
}


async def test_every_metric_is_listed_with_its_labels(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "strength:uncertainty", instances=[STRENGTH_ROW])
    entry = {"request_id": answer.headers["x-request-id"], "value": 30.0}
    await ask(client, "strength:feedback", feedback=[entry])
    found = {family.name: set(family.labels) for family in COUNTED}
    text = (await client.get("/metrics")).text
    for family in text_string_to_metric_families(text):
        name = family.name.removesuffix("_total")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert not labels or labels == LISTED[name], name
        found[name] = LISTED[name]
    assert found == LISTED


async def test_every_metric_says_what_it_is(client: httpx.AsyncClient) -> None:
    """In base units, with a help text."""
    await ask(client, "strength:predict", instances=[STRENGTH_ROW])
    families = list(text_string_to_metric_families((await client.get("/metrics")).text))
    for family in families:
        assert family.documentation, family.name
        assert not re.search(r"_(ms|millis|percent|kb|mb)\b", family.name), family.name

"""What visitors do and see in more than one part of the page."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Service


def figure_in(text: str) -> float:
    """The first number of a text."""
    found = re.search(r"-?[\d,]*\.?\d+(?:e-?\d+)?", text)
    assert found is not None, text
    return float(found.group().replace(",", ""))


def choose_model(page: Page, name: str) -> None:
    choice = page.get_by_label("Model", exact=True)
    expect(choice).to_be_visible()
    if choice.input_value() != name:
        with page.expect_response(lambda r: f"/v1/models/{name}:" in r.url and r.ok):
            choice.select_option(name)


def value_of(service: Service, model: str, card: dict, **fields: object) -> dict:
    """The service's own answer to the row that the page begins with."""
    row = card["report"]["excerpt"][0]
    return service.ask(f"{model}:uncertainty", instances=[row], **fields)["predictions"][0]


def card_of(service: Service, model: str, version: int) -> dict:
    return service.client.get(f"/v1/models/{model}/versions/{version}").json()

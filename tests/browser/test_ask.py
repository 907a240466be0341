"""Ask: a row in, a prediction and its distribution out, as they are shown."""

import re
import shlex

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.doing import card_of, choose_model, figure_in, value_of
from tests.e2e.conftest import Service


def test_a_real_row_is_asked_and_answered_twice(visit: Visit, service: Service) -> None:
    page = visit.open("#/ask")
    choose_model(page, "concrete")
    card = card_of(service, "concrete", 2)
    for feature, value in zip(card["features"], card["report"]["excerpt"][0], strict=True):
        assert float(page.get_by_label(feature["name"], exact=True).input_value()) == value
    own = value_of(service, "concrete", card, return_samples=True)
    expect(page.locator(".prediction .big")).to_have_text(f"{own['value']:.5g}")
    summary = page.locator(".distribution .summary")
    assert figure_in(summary.inner_text()) == pytest.approx(own["mean"], rel=1e-4)
    expect(page.locator(".distribution .chip").first).to_have_text(own["decision"])
    expect(page.locator(".distribution")).to_contain_text("epistemic")
    promise = "the training table it contains the truth 90% of the time"
    expect(page.locator(".distribution")).to_contain_text(promise)
    # The call that is shown gives the answer that is shown.
    command = shlex.split(page.get_by_label("curl call of predict").inner_text())
    answer = httpx.post(command[2], content=command[4]).json()
    assert answer["predictions"][0]["value"] == own["value"]
    stale = page.get_by_text("The row has changed since it was answered: press Ask.")
    expect(stale).to_be_hidden()
    page.get_by_label("age", exact=True).fill("5000")
    expect(stale).to_be_visible()
    page.get_by_role("button", name="Ask").click()
    expect(stale).to_be_hidden()
    expect(page.locator(".prediction .flag")).to_have_text("age lies outside what training saw")
    # Whatever the spread says: what is not promised is not green.
    expect(page.locator(".distribution .decision")).not_to_have_class(re.compile("accept"))
    expect(page.locator(".distribution .note")).to_contain_text("Not promised here.")
    expect(page.locator(".distribution .note")).to_contain_text("this one is unlike them in age")
    expect(page.locator(".distribution")).not_to_contain_text(promise)


def test_an_error_is_shown_at_its_field(visit: Visit) -> None:
    page = visit.open("#/ask")
    choose_model(page, "concrete")
    page.get_by_label("water", exact=True).fill("")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_contain_text("An instance does not fit the model")
    water = page.get_by_label("water", exact=True)
    expect(water).to_have_attribute("aria-invalid", "true")
    expect(water).to_be_focused()
    expect(page.locator(f"#{water.get_attribute('id')}-fault")).to_contain_text("is missing")
    water.fill("180")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".distribution")).to_be_visible()
    visit.expect_failure("status of 422")


def test_the_band_opens_where_data_end(visit: Visit) -> None:
    page = visit.open("#/ask")
    choose_model(page, "concrete")
    with page.expect_response(lambda r: r.url.endswith(":uncertainty")):
        page.get_by_label("Feature", exact=True).select_option("water")
    words = page.locator(".sweep-words")
    expect(words).to_contain_text("where there are no data")
    expect(words).to_contain_text("at 309.6")
    inside, low, high = map(float, re.findall(r"([\d.]+) (?:in|at)", words.inner_text()))
    assert low > 1.5 * inside
    assert high > inside
    expect(page.locator(".curls")).to_be_visible()
    expect(page.locator("figure").last).to_contain_text("Ticks below: training rows.")
    # Training had no age below 1: none below 0 is asked for.
    with page.expect_response(lambda r: r.url.endswith(":uncertainty")) as swept:
        page.get_by_label("Feature", exact=True).select_option("age")
    ages = [row["age"] for row in swept.value.request.post_data_json["instances"]]
    assert (min(ages), max(ages)) == (0.0, 547.0)
    expect(words).to_contain_text("at 547, where there are no data")


def test_classes_are_answered_with_a_set(visit: Visit, service: Service) -> None:
    page = visit.open("#/ask")
    choose_model(page, "penguins")
    own = value_of(service, "penguins", card_of(service, "penguins", 1), return_samples=True)
    expect(page.locator(".prediction .big")).to_have_text(own["deterministic"]["label"])
    chips = page.locator(".distribution .chip.good").all_inner_texts()
    assert chips == own["prediction_set"]["labels"]
    expect(page.locator(".distribution")).to_contain_text("mutual information")
    page.get_by_label("sex", exact=True).select_option(label="(missing)")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".distribution .flag")).to_have_text("sex is missing and was imputed")

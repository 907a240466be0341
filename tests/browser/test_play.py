"""Play: what dropout does, as it is shown."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.doing import card_of, choose_model, figure_in, value_of
from tests.e2e.conftest import Service


def dropped(page: Page) -> list[str]:
    """The units struck out, as they are told to who cannot see."""
    struck = page.locator(".network .unit:has(.strike)")
    return [unit.get_attribute("aria-label") for unit in struck.all()]


def draw(page: Page) -> None:
    with page.expect_response(lambda response: response.url.endswith(":dropout")):
        page.get_by_role("button", name="Draw new masks").click()


def test_masks_differ_in_train_mode_and_vanish_in_eval_mode(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_role("heading", name="Play: what dropout does")).to_be_visible()
    choose_model(page, "penguins")
    choose_model(page, "concrete")
    page.get_by_label("p, the probability of being dropped").fill("0.5")
    expect(page.locator(".words")).to_contain_text("was trained with p = 0.1. With p = 0.5")
    expect(page.locator(".words")).to_contain_text("1/(1 − p) = 2")
    first = dropped(page)
    assert 3 <= len(first) <= 21
    draw(page)
    expect(page.get_by_text("Sample 2 of 200")).to_be_visible()
    expect(page.get_by_role("status").last).to_contain_text("of the 24 units drawn are dropped")
    assert dropped(page) != first
    outputs = page.locator(".outputs dd").all_inner_texts()
    assert outputs[0] != outputs[1]
    expect(page.locator(".network .answer")).to_have_text(outputs[1])
    expect(page.get_by_label("Key to the picture")).to_contain_text("dropped unit")
    page.get_by_label("eval() dropout off").check()
    expect(page.locator(".network .strike")).to_have_count(0)
    expect(page.locator(".outputs dd").first).to_have_text(outputs[0])
    expect(page.locator(".network .answer")).to_have_text(outputs[0])
    expect(page.get_by_label("Key to the picture")).not_to_contain_text("dropped")
    expect(page.get_by_role("button", name="Draw new masks")).to_be_disabled()
    expect(page.locator(".words")).to_contain_text("In eval mode dropout is off.")
    # A word of the field, explained where it stands, by keyboard alone.
    word = page.locator(".words").get_by_role("button", name="weight scaling")
    meaning = page.get_by_role("note").filter(has_text="One pass through the whole network")
    word.focus()
    page.keyboard.press("Enter")
    expect(meaning).to_be_visible()
    expect(meaning).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    expect(meaning).to_have_count(0)
    expect(word).to_be_focused()


def test_a_unit_is_told_in_numbers(visit: Visit) -> None:
    page = visit.open()
    choose_model(page, "concrete")
    page.locator(".network .unit.choosable:not(.dropped)").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".unit-name")).to_contain_text("hidden 2, unit")
    page.locator(".network .unit.choosable:has(.strike)").first.click()
    expect(page.locator(".play .unit .hint")).to_contain_text("the next layer receives 0 from it")
    terms = page.locator(".sum b").all_inner_texts()
    assert (terms[1], terms[3]) == ("0", "0")
    page.locator(".network .unit.choosable:not(.dropped)").nth(2).click()
    activation, mask, scale, result = map(figure_in, page.locator(".sum b").all_inner_texts())
    assert result == pytest.approx(activation * mask * scale, rel=2e-3)
    assert scale == pytest.approx(1 / 0.9, rel=1e-3)


def test_the_running_mean_ends_at_the_services_own_mean(visit: Visit, service: Service) -> None:
    page = visit.open()
    choose_model(page, "concrete")
    page.get_by_role("button", name="Take all 200 samples").click()
    shown = page.get_by_text("After 200 samples the running mean is")
    expect(shown).to_be_visible()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    own = value_of(
        service, "concrete", card_of(service, "concrete", 2), n_samples=200, estimator="mc"
    )
    running = figure_in(shown.inner_text().partition("is ")[2])
    assert running == pytest.approx(own["mean"], rel=1e-4)
    assert figure_in(page.locator(".mc-mean dd").inner_text()) == pytest.approx(running, rel=1e-4)
    evaluated = figure_in(page.locator(".eval-mean dd").inner_text())
    assert evaluated == pytest.approx(own["value"], rel=1e-4)
    gap = figure_in(page.locator(".gap-value dd").inner_text())
    assert gap == pytest.approx(abs(own["value"] - own["mean"]), rel=0.05, abs=1e-4)


def test_dropconnect_drops_weights_and_a_model_without_dropout_says_so(visit: Visit) -> None:
    page = visit.open()
    choose_model(page, "weights")
    expect(page.locator(".words")).to_contain_text("weights are dropped, not units")
    expect(page.locator(".network .link.dropped").first).to_be_attached()
    assert dropped(page) == []
    page.get_by_label("Model", exact=True).select_option("plain")
    expect(page.get_by_role("alert")).to_contain_text("The model has no dropout")
    expect(page.get_by_role("button", name="Draw new masks")).to_be_disabled()
    visit.expect_failure("status of 422")


def test_a_large_network_is_drawn_in_part_and_says_so(visit: Visit) -> None:
    page = visit.open()
    choose_model(page, "large")
    expect(page.locator(".network")).to_contain_text("12 of 1,024")
    expect(page.locator(".picture")).to_contain_text("Too large to draw whole")
    assert page.locator(".network circle.body").count() == 12 * 4 + 10
    page.get_by_role("link", name="Ask").click()
    expect(page.locator(".fields input")).to_have_count(203)
    page.get_by_label("Find one of 200 features").fill("longer")
    expect(page.locator("form .fields").first.locator(".field:visible")).to_have_count(10)
    expect(page.locator(".distribution")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.scrollWidth <= 360")

"""Each part of the page used as a person would, and what is then to be seen."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.e2e.conftest import PENGUINS, Service

PARTS = ["play", "ask", "train", "models"]


def figure_in(text: str) -> float:
    """The first number of a text."""
    return float(re.search(r"-?[\d,]*\.?\d+(?:e-?\d+)?", text).group().replace(",", ""))


def dropped(page: Page) -> list[str]:
    """The units struck out, as they are told to who cannot see."""
    struck = page.locator(".network .unit:has(.strike)")
    return [unit.get_attribute("aria-label") for unit in struck.all()]


def choose_model(page: Page, name: str) -> None:
    choice = page.get_by_label("Model", exact=True)
    expect(choice).to_be_visible()
    if choice.input_value() != name:
        with page.expect_response(lambda r: f"/v1/models/{name}:" in r.url and r.ok):
            choice.select_option(name)


def draw(page: Page) -> None:
    with page.expect_response(lambda response: response.url.endswith(":dropout")):
        page.get_by_role("button", name="Draw new masks").click()


def value_of(service: Service, model: str, card: dict, **fields: object) -> dict:
    row = card["report"]["excerpt"][0]
    return service.ask(f"{model}:uncertainty", instances=[row], **fields)["predictions"][0]


def card_of(service: Service, model: str, version: int) -> dict:
    return service.client.get(f"/v1/models/{model}/versions/{version}").json()


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
    page.get_by_label("eval() dropout off").check()
    expect(page.locator(".network .strike")).to_have_count(0)
    expect(page.locator(".outputs dd").first).to_have_text(outputs[0])
    expect(page.get_by_role("button", name="Draw new masks")).to_be_disabled()
    expect(page.locator(".words")).to_contain_text("In eval mode dropout is off.")


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
    page.get_by_role("button", name="All 200").click()
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
    expect(page.locator(".picture, .stack").first).to_contain_text("Too large to draw whole")
    assert page.locator(".network circle.body").count() == 12 * 4 + 10
    page.get_by_role("link", name="Ask").click()
    expect(page.locator(".fields input")).to_have_count(203)
    page.get_by_label("Find one of 200 features").fill("longer")
    expect(page.locator("form .fields").first.locator(".field:visible")).to_have_count(10)
    expect(page.locator(".distribution")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.scrollWidth <= 360")


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
    # The call that is shown gives the answer that is shown.
    command = shlex.split(page.get_by_label("curl call of predict").inner_text())
    answer = httpx.post(command[2], content=command[4]).json()
    assert answer["predictions"][0]["value"] == own["value"]
    page.get_by_label("age", exact=True).fill("5000")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".prediction .flag")).to_have_text("age lies outside what training saw")


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


def test_a_dropped_file_becomes_a_model_in_production(visit: Visit, service: Service) -> None:
    page = visit.open("#/train")
    expect(page.get_by_text("Drop a CSV, Parquet or NDJSON file here")).to_be_visible()
    text = PENGUINS.read_text()
    transfer = page.evaluate_handle(
        """text => { const t = new DataTransfer();
        t.items.add(new File([text], "My birds.csv", {type: "text/csv"})); return t; }""",
        text,
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("caption")).to_contain_text("344 rows, 7 columns")
    page.get_by_label("species").check()
    expect(page.get_by_label("Name of the model")).to_have_value("My-birds")
    page.get_by_text("Network and training").click()
    page.get_by_label("p, probability of being dropped").fill("2")
    page.get_by_role("button", name="Start training").click()
    p = page.get_by_label("p, probability of being dropped")
    expect(p).to_have_attribute("aria-invalid", "true")
    visit.expect_failure("status of 422")
    p.fill("0.2")
    page.get_by_label("Hidden units").fill("16, 16")
    page.get_by_label("Epochs, at most").fill("6")
    page.get_by_label("Calibration").select_option("split")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("is in production: it answers")).to_be_visible(timeout=120_000)
    expect(page.locator(".log")).to_contain_text("succeeded")
    for title in ("Calibration", "Coverage against nominal", "Risk and coverage", "Confusion",
                  "Weight scaling and Monte Carlo averaging"):  # fmt: skip
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    said = page.locator(".log li").all_inner_texts()
    page.reload()
    expect(page.get_by_text("is in production: it answers")).to_be_visible()
    assert page.locator(".log li").all_inner_texts() == said
    page.get_by_role("button", name="Ask it").click()
    expect(page.locator(".distribution")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("My-birds")
    model = service.client.get("/v1/models/My-birds").json()
    assert model["aliases"] == {"production": 1}
    assert model["versions"][0]["network"]["hidden"] == [16, 16]
    assert model["versions"][0]["dropout"]["p"] == pytest.approx([0.2, 0.2])


def test_a_lost_connection_is_taken_up_after_the_last_event(visit: Visit, service: Service) -> None:
    dataset = service.upload(PENGUINS)
    job = service.finish(service.submit(
        model="followed", dataset=dataset["id"], target="species", calibration="split",
        hyperparameters={"hidden": [8], "epochs": 3}, promote="never",
    )["id"])  # fmt: skip
    seen: list[str | None] = []

    def cut(route: Route) -> None:
        seen.append(route.request.headers.get("last-event-id"))
        if len(seen) > 1:
            route.continue_()
            return
        whole = route.fetch()
        blocks = whole.text().split("\n\n")
        route.fulfill(response=whole, body="\n\n".join(blocks[:3]) + "\n\nid: 4\ndata: {")

    visit.page.route("**/events", cut)
    page = visit.open(f"#/train/{job['id']}")
    expect(page.get_by_text("is not in production")).to_be_visible()
    assert seen == [None, "3"]
    events = service.client.get(f"/v1/training_jobs/{job['id']}/events?order=asc").json()["data"]
    logged = [event["message"] for event in events if event["type"] != "epoch"]
    shown = [line.partition(" – ")[2] for line in page.locator(".log li").all_inner_texts()]
    assert shown == logged
    expect(page.locator("figcaption").first).to_contain_text("Epoch 3:")
    page.get_by_role("button", name="Promote to production").click()
    expect(page.get_by_text("is in production: it answers")).to_be_visible()
    assert service.client.get("/v1/models/followed").json()["aliases"] == {"production": 1}


def test_a_version_is_rolled_back_and_downloaded(
    visit: Visit, service: Service, tmp_path: Path
) -> None:
    page = visit.open("#/models")
    table = page.get_by_role("region", name="Versions of concrete")
    live = table.locator("tr.live th")
    expect(live).to_have_text("2")
    table.get_by_role("button", name="Roll back to it: version 1").click()
    expect(live).to_have_text("1")
    assert service.client.get("/v1/models/concrete").json()["aliases"] == {"production": 1}
    table.get_by_role("button", name="Promote: version 2").click()
    expect(live).to_have_text("2")
    with page.expect_download() as download:
        table.get_by_role("button", name="Download version 1").click()
    assert download.value.suggested_filename == "concrete-1.zip"
    download.value.save_as(tmp_path / "a.zip")
    whole = service.client.get("/v1/models/concrete/versions/1/artifact").content
    assert (tmp_path / "a.zip").read_bytes() == whole
    table.get_by_role("button", name="Report of version 2").click()
    expect(page.get_by_role("heading", name="Predictions and residuals")).to_be_visible()


def test_a_key_is_asked_for_and_kept_in_memory_alone(visit: Visit) -> None:
    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
            return
        problem = {"title": "A key is due", "status": 401, "detail": "show a key"}
        route.fulfill(status=401, body=json.dumps(problem), content_type="application/problem+json")

    visit.page.route("**/v1/**", guard)
    page = visit.open()
    dialog = page.get_by_role("dialog")
    for key in ("wrong", "right"):
        expect(dialog).to_contain_text("show a key")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
    expect(page.locator(".network circle").first).to_be_visible()
    expect(dialog).to_be_hidden()
    kept = "[{...localStorage}, {...sessionStorage}, document.cookie, location.href]"
    assert "right" not in str(page.evaluate(kept))
    page.reload()
    expect(dialog).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("A key is due")
    visit.expect_failure("status of 401")


def test_without_models_and_without_a_service_the_page_says_so(visit: Visit) -> None:
    nothing = {"data": [], "has_more": False}
    visit.page.route("**/v1/models?*", lambda route: route.fulfill(json=nothing))
    page = visit.open()
    expect(page.get_by_text("There is no model yet.")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    expect(page.locator("#models .empty")).to_be_visible()
    page.unroute("**/v1/models?*")
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("link", name="Train", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("The service does not answer")
    visit.expect_failure("ERR_FAILED")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_part_is_accessible_at_every_width(visit: Visit, scheme: str) -> None:
    page = visit.page
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    visit.open()
    settled = {
        "play": ".network circle", "ask": ".sweep-words:not(:empty)", "train": ".drop",
        "models": "table",
    }  # fmt: skip
    for part in PARTS:
        visit.open(f"#/{part}")
        expect(page.locator(f"#{part} {settled[part]}").first).to_be_visible()
        # What the theme does not change is looked at once.
        rules = None if scheme == "light" else {"runOnly": ["color-contrast"]}
        found = Axe().run(page, options=rules)
        assert found.violations_count == 0, (part, found.generate_report())
        for width in (360, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")

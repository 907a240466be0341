"""Train: from a file to a model in production."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.e2e.conftest import PENGUINS, Service


def drop(page: Page, name: str, text: str) -> None:
    """Drops a file, as from a folder beside the browser."""
    transfer = page.evaluate_handle(
        """([name, text]) => { const t = new DataTransfer();
        t.items.add(new File([text], name, {type: "text/csv"})); return t; }""",
        [name, text],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})


def test_a_dropped_file_becomes_a_model_in_production(visit: Visit, service: Service) -> None:
    page = visit.open("#/train")
    expect(page.get_by_text("Drop a CSV, Parquet or NDJSON file here")).to_be_visible()
    drop(page, "My birds.csv", PENGUINS.read_text())
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
    page.get_by_label("Promote").select_option("never")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("is not in production")).to_be_visible(timeout=120_000)
    expect(page.locator(".log")).to_contain_text("succeeded")
    for title in ("Calibration", "Coverage against nominal", "Risk and coverage", "Confusion",
                  "Weight scaling and Monte Carlo averaging"):  # fmt: skip
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    said = page.locator(".log li").all_inner_texts()
    assert cut_and_reload(page) == [None, "3"]
    assert page.locator(".log li").all_inner_texts() == said
    (job,) = [job for job in service.client.get("/v1/training_jobs").json()["data"]
              if job["model"] == "My-birds"]  # fmt: skip
    path = f"/v1/training_jobs/{job['id']}/events?order=asc"
    events = service.client.get(path).json()["data"]
    logged = [event["message"] for event in events if event["type"] != "epoch"]
    assert [line.partition(" – ")[2] for line in said] == logged
    expect(page.locator("figcaption").first).to_contain_text("Epoch 6:")
    page.get_by_role("button", name="Promote to production").click()
    expect(page.get_by_text("is in production: it answers")).to_be_visible()
    page.get_by_role("button", name="Ask it").click()
    expect(page.locator(".distribution")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("My-birds")
    model = service.client.get("/v1/models/My-birds").json()
    assert model["aliases"] == {"production": 1}
    assert model["versions"][0]["network"]["hidden"] == [16, 16]
    assert model["versions"][0]["dropout"]["p"] == pytest.approx([0.2, 0.2])


def cut_and_reload(page: Page) -> list[str | None]:
    """Loads the job anew, over a stream that breaks off in the middle of the fourth event; which
    event each request for the stream named as its last."""
    seen: list[str | None] = []

    def cut(route: Route) -> None:
        seen.append(route.request.headers.get("last-event-id"))
        if len(seen) > 1:
            route.continue_()
            return
        whole = route.fetch()
        blocks = whole.text().split("\n\n")
        route.fulfill(response=whole, body="\n\n".join(blocks[:3]) + "\n\nid: 4\ndata: {")

    page.route("**/events", cut)
    page.reload()
    expect(page.get_by_text("is not in production")).to_be_visible()
    page.unroute("**/events")
    return seen


def test_an_upload_tells_how_far_it_is_and_can_be_cancelled(visit: Visit, service: Service) -> None:
    page = visit.open("#/train")
    expect(page.locator(".drop")).to_be_visible()
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2**20}
    line.send("Network.emulateNetworkConditions", slow)
    large = "a,b\n" + "1.2345678901234567,2\n" * 300_000
    drop(page, "large.csv", large)
    sent = page.locator(".upload .sent")
    expect(sent).to_have_text(re.compile(r"^[\d.]+ [kM]B of 6.3 MB sent \([1-9][\d.]*%\)$"))
    value = page.get_by_label("Sending large.csv").get_attribute("value")
    assert value is not None
    assert 0 < float(value) < 1
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".upload")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)
    names = [one["name"] for one in service.client.get("/v1/datasets").json()["data"]]
    assert "large.csv" not in names

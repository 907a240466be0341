"""What holds in every part: keys, nothing there, accessibility."""

import json

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit


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


def test_every_part_is_accessible_at_every_width_in_either_theme(visit: Visit) -> None:
    page = visit.page
    settled = {
        "play": ".network circle", "ask": ".sweep-words:not(:empty)", "train": ".drop",
        "models": "table",
    }  # fmt: skip
    for part, sign in settled.items():
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.set_viewport_size({"width": 1440, "height": 900})
        visit.open(f"#/{part}")
        expect(page.locator(f"#{part} {sign}").first).to_be_visible()
        look_at(page, part, None)
        # What the theme does not change is looked at once.
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        look_at(page, part, {"runOnly": ["color-contrast"]})
        for width in (3840, 360):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
        look_at(page, part, None)


def look_at(page: Page, part: str, options: dict | None) -> None:
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, (part, page.viewport_size, found.generate_report())

"""Models: versions promoted, taken away and brought back."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.e2e.conftest import Service


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


def test_a_version_is_brought_from_a_file_and_deleted(
    visit: Visit, service: Service, tmp_path: Path
) -> None:
    artifact, text = tmp_path / "concrete-1.zip", tmp_path / "text.zip"
    artifact.write_bytes(service.client.get("/v1/models/concrete/versions/1/artifact").content)
    text.write_text("no zip")
    page = visit.open("#/models")
    page.get_by_text("Add a version from a file").click()
    form = page.locator("form", has=page.get_by_label("Artifact"))
    name, send = form.get_by_label("Model"), form.get_by_role("button", name="Upload the version")
    send.click()
    expect(form.get_by_label("Artifact")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Artifact").set_input_files(artifact)
    expect(name).to_have_value("concrete")
    name.fill("no name!")
    send.click()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_role("alert")).to_contain_text("cannot be a model's name")
    name.fill("moved")
    form.get_by_label("Artifact").set_input_files(text)
    send.click()
    expect(form.get_by_role("alert")).to_contain_text("not a readable zip file")
    visit.expect_failure("status of 422")
    for version in ("1", "2"):
        form.get_by_label("Artifact").set_input_files(artifact)
        name.fill("moved")
        send.click()
        table = page.get_by_role("region", name="Versions of moved")
        expect(table.get_by_role("rowheader").first).to_have_text(version)
        expect(page.locator("#model-moved")).to_be_focused()
        expect(table.locator("tr.live th")).to_have_text("1")
        page.get_by_text("Add a version from a file").click()
    assert service.client.get("/v1/models/moved").json()["aliases"] == {"production": 1}
    remove = table.get_by_role("button", name="Delete version")
    expect(remove).to_have_count(1)
    sure = page.get_by_role("dialog", name="Delete version 2 of moved?")
    remove.click()
    expect(sure.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(table.get_by_role("rowheader")).to_have_text(["2", "1"])
    # Meanwhile somebody else points an alias to it.
    service.client.put("/v1/models/moved/aliases/canary", json={"version": 2})
    remove.click()
    sure.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("moved 2 is what canary points to")
    visit.expect_failure("status of 409")
    service.client.delete("/v1/models/moved/aliases/canary")
    remove.click()
    sure.get_by_role("button", name="Delete").click()
    expect(table.get_by_role("rowheader")).to_have_text(["1"])
    assert service.client.get("/v1/models/moved/versions/2").status_code == 404
    service.client.delete("/v1/models/moved/aliases/production")
    service.client.delete("/v1/models/moved/versions/1")

"""The page's files: whole, from here alone, under a strict policy; tests/browser uses them."""

import gzip
import re
from pathlib import Path

import httpx
import plotly
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


INLINE = re.compile(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=\"|innerHTML|\beval\((?!\))")
FOLDER = Path(__file__).parents[2] / "service" / "page"


async def everything(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """All files that the page leads to, by address."""
    found: dict[str, httpx.Response] = {}
    waiting = ["/"]
    while waiting:
        address = waiting.pop()
        if address in found:
            continue
        found[address] = await client.get(address)
        if not address.startswith("/page/plotly"):
            text = found[address].text
            waiting += re.findall(r'(?:src|href|data-plotly)="(/page/[^"]+)"', text)
            waiting += [f"/page/{name}" for name in re.findall(r'"\./(\w+\.js)"', text)]
    return found


async def test_all_that_the_page_needs_is_here(client: httpx.AsyncClient) -> None:
    found = await everything(client)
    assert {response.status_code for response in found.values()} == {200}
    names = {address.removeprefix("/page/") for address in found if "plotly-" not in address}
    assert names - {"/"} | {"index.html"} == {file.name for file in FOLDER.iterdir()}
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}
    for address, response in found.items():
        kind = "html" if address == "/" else address.rpartition(".")[2]
        assert response.headers["content-type"].startswith(kinds[kind]), address


async def test_nothing_is_inline_and_nothing_is_loaded_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    for address, response in (await everything(client)).items():
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "unsafe" not in policy
        if "plotly-" in address:
            continue
        text = response.text
        assert not INLINE.search(text), address
        # Papers that are cited, and the name of SVG: addresses to follow, none to load.
        foreign = set(re.findall(r"https?://([\w.-]+)", text))
        assert foreign <= {"jmlr.org", "proceedings.mlr.press", "www.w3.org"}, address


async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for address, first in (await everything(client)).items():
        tag = first.headers["etag"]
        again = await client.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        caching = first.headers["cache-control"]
        assert ("immutable" in caching) == ("plotly-" in address)
        other = await client.get(address, headers={"If-None-Match": '"0"'})
        assert other.status_code == 200


async def test_plotly_is_the_installed_one_named_by_its_version(client: httpx.AsyncClient) -> None:
    address = f"/page/plotly-{plotly.__version__}.js"
    assert address in (await client.get("/")).text
    installed = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    plain = await client.get(address, headers={"Accept-Encoding": "identity"})
    assert plain.content == installed
    async with client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as zipped:
        raw = b"".join([chunk async for chunk in zipped.aiter_raw()])
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == installed
    assert len(raw) < 2_000_000
    assert zipped.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fsettings.py", "index.html%00", "__init__.py"])
async def test_other_names_lead_nowhere(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/page/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
async def test_head_is_answered_like_get_without_the_body(
    client: httpx.AsyncClient, accepted: str
) -> None:
    headers = {"accept-encoding": accepted}
    plot = next(address for address in await everything(client) if "plotly-" in address)
    for address in ("/", "/page/page.css", plot):
        whole = await client.get(address, headers=headers)
        head = await client.head(address, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        ours = {"x-request-id"}
        assert {k: v for k, v in head.headers.items() if k not in ours} == {
            k: v for k, v in whole.headers.items() if k not in ours
        }
    assert (await client.head("/page/nothing.js")).status_code == 404

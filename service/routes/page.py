"""The web page at `/`: files as they are, plotly.js from its package, and what they may load."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.resources
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from service.errors import NotFoundError

router = APIRouter(include_in_schema=False)

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Everything from here, nothing inline. Plots draw themselves into blobs and data when saved.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Named with its version, so that it never changes under its name.
PLOTLY = f"plotly-{importlib.metadata.version('plotly')}.js"
FOREVER = "public, max-age=31536000, immutable"

ASKED_BY = ["GET", "HEAD"]

Named = Annotated[str, Header()]


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent, and the tag that says whether a browser has it."""

    content: bytes
    media_type: str
    tag: str
    encoding: str | None = None


@router.api_route("/", methods=ASKED_BY)
async def front_page(request: Request, if_none_match: Named = "") -> Response:
    return _answer(request, _files()["index.html"], "no-cache", if_none_match)


@router.api_route(f"/page/{PLOTLY}", methods=ASKED_BY)
def plotly(request: Request, if_none_match: Named = "", accept_encoding: Named = "") -> Response:
    file = _plotly(zipped="gzip" in accept_encoding)
    return _answer(request, file, FOREVER, if_none_match)


@router.api_route("/page/{name}", methods=ASKED_BY)
async def page_file(request: Request, name: str, if_none_match: Named = "") -> Response:
    file = _files().get(name)
    if file is None:
        raise NotFoundError(f"there is nothing at /page/{name[:64]}")
    return _answer(request, file, "no-cache", if_none_match)


def _answer(request: Request, file: PageFile, caching: str, if_none_match: str) -> Response:
    headers = {
        "ETag": file.tag,
        "Cache-Control": caching,
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
    }
    if file.tag in if_none_match:
        return Response(status_code=304, headers=headers)
    if file.encoding is not None:
        headers["Content-Encoding"] = file.encoding
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(file.content))
        return Response(media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@cache
def _files() -> dict[str, PageFile]:
    """What the page is made of, by name."""
    found = {}
    for file in (importlib.resources.files("service") / "page").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes().replace(b"{plotly}", PLOTLY.encode())
            found[file.name] = PageFile(content, media_type, _tag(content))
    return found


@cache
def _plotly(*, zipped: bool) -> PageFile:
    package = importlib.resources.files("plotly") / "package_data"
    content = (package / "plotly.min.js").read_bytes()
    if zipped:
        content = gzip.compress(content, 6, mtime=0)
    return PageFile(content, MEDIA_TYPES["js"], _tag(content), "gzip" if zipped else None)


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'

"""Keys: who gets in, who does not, and that every route has its scope in the table."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from service.access import RULES, Scope, need_of
from service.app import create_app
from service.commands import keys as commands
from service.database import Database, now
from service.keys import Keys
from service.settings import Settings
from tests.http.test_bad_requests import P, ask, assert_problem

pytestmark = pytest.mark.anyio

READ = ("GET", "/v1/models")
PREDICT = ("POST", P)
JOBS = ("GET", "/v1/training_jobs")
PROMOTE = ("PUT", "/v1/models/strength/aliases/production")


def make_key(home: Path, *scopes: str, expires_at: dt.datetime | None = None) -> tuple[str, str]:
    """The id and the text of a new key."""
    database = Database(Settings(home=home).database)
    database.migrate()
    key, text = Keys(database).create("test", {Scope(s) for s in scopes}, expires_at)
    database.close()
    return key.id, text


async def ask_as(client: httpx.AsyncClient, key: str, what: tuple[str, str]) -> httpx.Response:
    method, path = what
    body = {"version": 2} if method == "PUT" else ask() if method == "POST" else None
    return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["predict"], {READ, PREDICT}),
        (["train"], {READ, JOBS}),
        (["predict", "train"], {READ, PREDICT, JOBS}),
        (["admin"], {READ, PREDICT, JOBS, PROMOTE}),
    ],
)
async def test_scopes(
    serve: Callable, home: Path, scopes: list[str], allowed: set[tuple[str, str]]
) -> None:
    _, key = make_key(home, *scopes)
    app = await serve(keys="required")
    for what in (READ, PREDICT, JOBS, PROMOTE):
        response = await ask_as(app.client, key, what)
        if what in allowed:
            assert response.status_code == 200, (what, response.text)
        else:
            detail = assert_problem(response, 403)["detail"]
            assert f"this key has {', '.join(sorted(scopes))}" in detail
            assert {PREDICT: "predict", JOBS: "train", PROMOTE: "admin"}[what] in detail


@pytest.mark.parametrize(
    ("scopes", "is_trusted"), [(["predict"], False), (["train"], True), (["admin"], True)]
)
async def test_rows_of_the_table_are_for_keys_that_may_train(
    serve: Callable, home: Path, scopes: list[str], *, is_trusted: bool
) -> None:
    _, key = make_key(home, *scopes)
    app = await serve(keys="required")
    response = await ask_as(app.client, key, ("GET", "/v1/models/strength/versions/1"))
    report = response.json()["report"]
    assert report["risk_coverage"]
    assert ("excerpt" in report) == ("residuals" in report) == is_trusted


async def test_both_headers_carry_a_key(serve: Callable, home: Path) -> None:
    _, key = make_key(home, "predict")
    app = await serve(keys="required")
    for headers in (
        {"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer  {key} "},
        {"X-API-Key": key}, {"X-API-Key": key, "Authorization": "Basic eDp5"},
    ):  # fmt: skip
        assert (await app.client.post(P, json=ask(), headers=headers)).status_code == 200, headers


async def test_whatever_is_not_a_good_key_gets_the_same_401(serve: Callable, home: Path) -> None:
    """No key, a wrong one, an expired one, a revoked one, one with a letter too many."""
    key_id, key = make_key(home, "admin")
    _, expired = make_key(home, "admin", expires_at=now() - dt.timedelta(seconds=1))
    revoked_id, revoked = make_key(home, "admin")
    assert commands.revoke(Settings(home=home), revoked_id) == 0
    app = await serve(keys="required")
    bad = [
        "", "x", "_", "__", key_id, key[:-1], key + "x", key.upper(), expired, revoked,
        f"dropcast_{key_id}_", f"dropcast_{key_id}_{expired.rpartition('_')[2]}", "\xe9",
        "k" * 100_000, key + "\0", f"other_{key_id}_{key.split('_', 2)[2]}",
    ]  # fmt: skip
    bodies = set()
    for what in (READ, PREDICT, ("GET", "/nothing"), ("DELETE", "/v1/models/strength/versions/1")):
        for wrong in bad:
            headers = {"X-API-Key": wrong.encode("latin-1"), "X-Request-Id": "same"}
            response = await app.client.request(*what, content=b"{", headers=headers)
            body = assert_problem(response, 401)
            assert response.headers["www-authenticate"] == 'Bearer realm="dropcast"'
            bodies.add(str(body | {"instance": ""}))
    assert len(bodies) == 1
    assert (await ask_as(app.client, key, READ)).status_code == 200


async def test_a_wrong_key_is_refused_before_the_body_is_read(serve: Callable) -> None:
    app = await serve(keys="required")
    asked = []

    async def body():
        asked.append(1)
        yield b"{}"

    response = await app.client.post(P, content=body(), headers={"X-API-Key": "no"})
    assert_problem(response, 401)
    assert not asked


async def test_what_needs_no_key(serve: Callable) -> None:
    app = await serve(keys="required")
    for path in ("/health", "/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert (await app.client.get(path)).status_code == 200, path
    script = "/static-offline-docs/swagger-ui-bundle.js"
    assert (await app.client.get(script)).status_code == 200


async def test_making_and_revoking_need_no_restart(serve: Callable, home: Path) -> None:
    """In each of several processes, within two seconds: the next look of each one's."""
    apps = [await serve(keys="required") for _ in range(2)]

    async def until(key: str, status: int) -> None:
        async with asyncio.timeout(2.0):
            for app in apps:
                while (await ask_as(app.client, key, PREDICT)).status_code != status:
                    await asyncio.sleep(0.05)

    old_id, old = make_key(home, "predict")
    await until(old, 200)
    _, new = make_key(home, "predict")
    await until(new, 200)
    commands.revoke(Settings(home=home), old_id)
    await until(old, 401)
    assert (await ask_as(apps[0].client, new, PREDICT)).status_code == 200


async def test_a_key_expires_by_itself(
    serve: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = make_key(home, "predict", expires_at=now() + dt.timedelta(hours=1))
    app = await serve(keys="required")
    assert (await ask_as(app.client, key, PREDICT)).status_code == 200
    later = now() + dt.timedelta(hours=2)
    monkeypatch.setattr("service.keys.now", lambda: later)
    assert_problem(await ask_as(app.client, key, PREDICT), 401)


async def test_good_keys_stay_good_while_the_database_is_away(
    serve: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = make_key(home, "predict")
    app = await serve(keys="required")
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def away(_: object) -> None:
        loop.call_soon_threadsafe(looked.set)
        raise OSError("the database is away")

    monkeypatch.setattr("service.keys.Keys.ring", away)
    await looked.wait()
    assert (await ask_as(app.client, key, PREDICT)).status_code == 200


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of everything that the application answers."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/{{path:path}}"
            continue
        for method in route.methods or ():
            if method != "HEAD":
                yield method, route.path


def test_every_route_has_a_scope_in_the_table(tmp_path: Path) -> None:
    """A new route belongs into `service/access.py`; until then only an admin's key opens it."""
    found = list(routes_of(create_app(Settings(home=tmp_path))))
    assert len(found) > 25
    for method, own_path in found:
        # One file of the page is a route of its own; the row of its files is for it, too.
        path = "/page/{name}" if own_path.startswith("/page/") else own_path
        assert (method, path) in RULES, f"no row in service/access.py for {method} {path}"
        asked = own_path.replace("{path:path}", "a/b")
        for name in ("model", "version", "alias", "job", "dataset", "verb"):
            asked = asked.replace(f"{{{name}}}", "thing")
        assert need_of(method, asked) == RULES[method, path], f"{asked} is taken for another row"


def test_what_no_row_names_needs_an_admin() -> None:
    admin = frozenset({Scope.ADMIN})
    for method, path in (
        ("GET", "/v1/secrets"), ("POST", "/v1/models/m:delete_all"), ("DELETE", "/v1/models/m"),
        ("TRACE", "/health"), ("POST", "/health"), ("GET", "/v1/models/m/versions/1/weights"),
    ):  # fmt: skip
        assert need_of(method, path) == admin, path
    assert need_of("HEAD", "/health/live") is None


def test_commands(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=home)
    assert commands.create(settings, "dashboard [1]", ["predict", "train"], 30.0) == 0
    made = capsys.readouterr()
    key = made.out.strip()
    assert key.startswith("dropcast_")
    assert "predict, train, until" in made.err
    assert key.encode() not in (home / "dropcast.db").read_bytes()
    commands.list_keys(settings)
    listed = capsys.readouterr().out
    assert "dashboard [1]" in listed
    assert key not in listed
    key_id = key.split("_")[1]
    assert key_id in listed
    assert commands.revoke(settings, key_id) == 0
    assert commands.revoke(settings, "nothing") == 1
    assert commands.create(settings, "x", ["root"], None) == 1
    assert commands.create(settings, "x", ["predict"], 1e12) == 1
    assert "predict, train, admin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "keys", "needed"),
    [
        ("127.0.0.1", "auto", False), ("127.9.9.9", "auto", False), ("::1", "auto", False),
        ("localhost", "auto", False), ("0.0.0.0", "auto", True), ("::", "auto", True),
        ("10.0.0.7", "auto", True), ("", "auto", True), ("db.example", "auto", True),
        ("127.0.0.1", "required", True), ("0.0.0.0", "off", False),
    ],
)  # fmt: skip
def test_where_keys_are_needed(host: str, keys: str, needed: bool) -> None:
    assert Settings(host=host, keys=keys).needs_keys is needed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "192.168.0.7"}, 200),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1"}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "localhost:8000", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:8000", "Origin": "null"}, 403),
    ],
)
async def test_without_keys_pages_of_other_sites_cannot_ask(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A browser sends `text/plain` anywhere without asking first, and we read any type."""
    response = await client.post(P, json=ask(), headers=headers)
    assert response.status_code == status, response.text
    if status != 200:
        assert_problem(response, status)


async def test_whoever_says_off_gets_any_name(serve: Callable) -> None:
    app = await serve(keys="off")
    response = await app.client.post(P, json=ask(), headers={"Host": "models.example"})
    assert response.status_code == 200


async def test_cors(serve: Callable) -> None:
    origin = {"Origin": "https://app.example"}
    preflight = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    closed = await serve()
    response = await closed.client.options(P, headers=preflight)
    assert "access-control-allow-origin" not in response.headers
    assert_problem(response, 405)
    opened = await serve(cors_origins="https://app.example, https://b.example", keys="required")
    response = await opened.client.options(P, headers=preflight)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    # A refusal can be read by the page, too.
    response = await opened.client.post(P, json=ask(), headers=origin)
    assert_problem(response, 401)
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    response = await opened.client.post(P, json=ask(), headers={"Origin": "https://c.example"})
    assert "access-control-allow-origin" not in response.headers


async def test_each_client_has_its_own_rate(serve: Callable, home: Path) -> None:
    (_, one), (_, two) = make_key(home, "predict"), make_key(home, "predict")
    app = await serve(keys="required", rate_limit="3/minute;1000/hour")
    for key in (one, two):
        statuses = [(await ask_as(app.client, key, PREDICT)).status_code for _ in range(3)]
        assert statuses == [200, 200, 200]
        response = await ask_as(app.client, key, PREDICT)
        assert "3 per 1 minute" in assert_problem(response, 429)["detail"]
        assert 1 <= int(response.headers["retry-after"]) <= 120
    # Wrong keys count for the address they come from.
    wrong = [(await ask_as(app.client, f"x{i}", PREDICT)).status_code for i in range(5)]
    assert wrong == [401, 401, 401, 429, 429]
    for _ in range(5):
        assert (await app.client.get("/health/live")).status_code == 200


async def test_without_keys_an_address_has_a_rate(serve: Callable) -> None:
    app = await serve(rate_limit="2/hour")
    assert [(await app.client.post(P, json=ask())).status_code for _ in range(3)] == [200, 200, 429]
    other = httpx.ASGITransport(app.app, client=("2001:db8::1", 1))
    same_network = httpx.ASGITransport(app.app, client=("2001:db8::2:9", 1))
    statuses = []
    for transport in (other, same_network, other):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            statuses.append((await client.post(P, json=ask())).status_code)
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize("rate", ["often", "0/second", "1/fortnight"])
def test_a_rate_that_is_none_is_refused_at_the_start(rate: str) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        Settings(rate_limit=rate)

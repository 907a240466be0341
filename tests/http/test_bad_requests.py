"""Every endpoint's bad requests: the status, the place, and the one shape of all errors."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from models.kernel import Weights
from service.inference import Address
from service.schemas import Problem, TrainingJobRequest, UncertaintyRequest
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


P = "/v1/models/strength:predict"
U = "/v1/models/strength:uncertainty"
D = "/v1/models/strength:dropout"
J = "/v1/training_jobs"
A = "/v1/models/strength/aliases/production"
ROW = STRENGTH_ROW


def rows(*instances: Any, **fields: Any) -> dict:
    return {"instances": list(instances)} | fields


def ask(**fields: Any) -> dict:
    return rows(ROW, **fields)


def job(**fields: Any) -> dict:
    return {"model": "m", "dataset": "DATASET", "target": "y"} | fields


def hyper(**fields: Any) -> dict:
    return job(hyperparameters=fields)


# Method, path, body (bytes go as they are), status, place of the first fault, part of the text.
BAD: list[tuple[str, str, Any, int, list | None, str]] = [
    # Not JSON, or not an object.
    ("POST", P, b"", 400, None, "empty"),
    ("POST", P, b"   ", 400, None, "empty"),
    ("POST", P, b"{", 400, None, "not JSON"),
    ("POST", P, b"{'instances': []}", 400, None, "not JSON"),
    ("POST", P, b"\xff\xfe", 400, None, "not JSON"),
    ("POST", P, b"[" * 5000, 400, None, "recursion limit"),
    ("POST", P, b'{"instances": [{}]} trailing', 400, None, "trailing"),
    ("POST", U, b"nonsense", 400, None, "not JSON"),
    ("POST", D, b"", 400, None, "empty"),
    ("POST", J, b"{", 400, None, "not JSON"),
    ("PUT", A, b"version=1", 400, None, "not JSON"),
    ("POST", P, [], 422, [], "an object is due"),
    ("POST", P, None, 422, [], "an object is due"),
    ("POST", P, "text", 422, [], "an object is due"),
    # Instances.
    ("POST", P, {}, 422, ["instances"], "is due"),
    ("POST", P, rows(), 422, ["instances"], "at least 1"),
    ("POST", P, {"instances": ROW}, 422, ["instances"], "an array is due"),
    ("POST", P, {"instances": None}, 422, ["instances"], "an array is due"),
    ("POST", P, rows(*[ROW] * 51), 422, ["instances"], "51 rows are more than the 50"),
    ("POST", P, rows(ROW, None), 422, ["instances", 1], "an object or an array"),
    ("POST", P, rows(3), 422, ["instances", 0], "an object or an array"),
    ("POST", P, rows([1, 2]), 422, ["instances", 0], "3 values are due"),
    ("POST", P, rows([1, 2, "north", 4]), 422, ["instances", 0], "not 4"),
    ("POST", P, rows(ROW | {"age": "28"}), 422, ["instances", 0, "age"], "not a text"),
    ("POST", P, rows(ROW, ROW | {"age": True}), 422, ["instances", 1, "age"], "not a boolean"),
    ("POST", P, rows(ROW | {"age": None}), 422, ["instances", 0, "age"], "is missing"),
    ("POST", P, rows({"site": "north"}), 422, ["instances", 0, "age"], "is missing"),
    ("POST", P, rows(ROW | {"site": None}), 422, ["instances", 0, "site"], "is missing"),
    ("POST", P, rows(ROW | {"site": ["x"]}), 422, ["instances", 0, "site"], "not an array"),
    ("POST", P, rows(ROW | {"site": 1.5}), 422, ["instances", 0, "site"], "a text is due"),
    ("POST", P, rows(ROW | {"weight": 1}), 422, ["instances", 0, "weight"], "not a feature"),
    ("POST", P, rows(ROW | {"watr": 1}), 422, ["instances", 0, "watr"],
     "is not a feature of this model; near it: water"),
    ("POST", P, rows(ROW | {"w" * 99: 1}), 422, ["instances", 0, "w" * 64], "not a feature"),
    ("POST", P, rows(ROW | {"strength": 1}), 422, ["instances", 0, "strength"], "target"),
    ("POST", P, rows(ROW | {"age": 1e300}), 422, ["instances", 0, "age"], "too far outside"),
    ("POST", P, b'{"instances": [{"age": NaN, "site": "north"}]}', 422,
     ["instances", 0, "age"], "finite"),
    ("POST", P, b'{"instances": [[1, -Infinity, "north"]]}', 422,
     ["instances", 0, "water"], "finite"),
    ("POST", P, b'{"instances": [[1e999, 1, "north"]]}', 422, ["instances", 0, "age"], "finite"),
    ("POST", P, b'{"instances": [[1' + b"0" * 400 + b', 1, "north"]]}', 422,
     ["instances", 0, "age"], "finite"),
    ("POST", "/v1/models/species:predict", rows(SPECIES_ROW | {"bill": []}), 422,
     ["instances", 0, "bill"], "not an array"),
    # Uncertainty.
    ("POST", U, ask(n_samples=1), 422, ["n_samples"], "greater than or equal to 2"),
    ("POST", U, ask(n_samples=10_001), 422, ["n_samples"], "less than or equal to 10000"),
    ("POST", U, ask(n_samples="100"), 422, ["n_samples"], "a whole number is due"),
    ("POST", U, ask(n_samples=10.5), 422, ["n_samples"], "a whole number is due"),
    ("POST", U, ask(n_samples=True), 422, ["n_samples"], "a whole number is due"),
    ("POST", U, ask(seed=-1), 422, ["seed"], "greater than or equal to 0"),
    ("POST", U, ask(seed=2**63), 422, ["seed"], "less than"),
    ("POST", U, ask(seed="x"), 422, ["seed"], "a whole number is due"),
    ("POST", U, ask(estimator="magic"), 422, ["estimator"], "'auto'"),
    ("POST", U, ask(quantiles=[0.5, 1.0]), 422, ["quantiles", 1], "less than 1"),
    ("POST", U, ask(quantiles=[0.0]), 422, ["quantiles", 0], "greater than 0"),
    ("POST", U, ask(quantiles=0.5), 422, ["quantiles"], "an array is due"),
    ("POST", U, ask(quantiles=[0.5] * 101), 422, ["quantiles"], "at most 100"),
    ("POST", U, ask(coverage=1.0), 422, ["coverage"], "less than 1"),
    ("POST", U, ask(coverage=0), 422, ["coverage"], "greater than 0"),
    ("POST", U, ask(coverage=0.999), 422, ["coverage"], "needs more calibration rows"),
    ("POST", U, ask(tolerance=0), 422, ["tolerance"], "greater than 0"),
    ("POST", U, ask(deadline_ms=-5), 422, ["deadline_ms"], "greater than 0"),
    ("POST", U, ask(return_samples="yes"), 422, ["return_samples"], "true or false is due"),
    ("POST", U, ask(samples=10), 422, ["samples"], "is not a field here; near it: n_samples"),
    ("POST", U, ask(**{"x" * 99: 10}), 422, ["x" * 64], "is not a field here"),
    ("POST", U, b'{"instances": [[1, 2, "north"]], "coverage": NaN}', 422, ["coverage"], "finite"),
    ("POST", U, b'{"instances": [[1, 2, "north"]], "tolerance": Infinity}', 422,
     ["tolerance"], "finite"),
    ("POST", U, rows(*[ROW] * 50, n_samples=10_000, return_samples=True), 422,
     ["return_samples"], "500000 sample values in one answer are more than the 200000"),
    ("POST", U, rows(*[ROW] * 50, n_samples=10_000), 422, ["n_samples"],
     "fewer rows, samples or quantiles help"),
    ("POST", U, ask(n_samples=1000, quantiles=[0.5] * 100), 422, ["n_samples"], "multiply-adds"),
    ("POST", U, rows(ROW | {"age": "x"}), 422, ["instances", 0, "age"], "not a text"),
    ("POST", "/v1/models/plain:uncertainty", ask(), 422, None, "no active dropout"),
    # Dropout.
    ("POST", D, {}, 422, ["instance"], "give one row"),
    ("POST", D, {"instance": ROW, "instances": [ROW]}, 422, ["instance"], "give one row"),
    ("POST", D, rows(ROW, ROW), 422, ["instances"], "at most 1"),
    ("POST", D, {"instance": "row"}, 422, ["instance"], "an object or an array"),
    ("POST", D, {"instance": ROW | {"age": "x"}}, 422, ["instance", "age"], "not a text"),
    ("POST", D, rows(ROW | {"age": "x"}), 422, ["instances", 0, "age"], "not a text"),
    ("POST", "/v1/models/dropconnect:dropout", {"instance": ROW, "n_samples": 10_000}, 422,
     ["n_samples"], "multiply-adds"),
    ("POST", D, {"instance": ROW, "n_samples": 0}, 422, ["n_samples"], "greater than"),
    ("POST", "/v1/models/plain:dropout", {"instance": ROW}, 422, None, "no active dropout"),
    # Things that are not there.
    ("POST", "/v1/models/nobody:predict", ask(), 404, None, "no model 'nobody'"),
    ("POST", "/v1/models/strenght:predict", ask(), 404, None,
     "no model 'strenght'; near it: strength"),
    ("GET", "/v1/models/strenght/versions/1", None, 404, None, "near it: strength"),
    ("POST", "/v1/models/a%00b:predict", ask(), 404, None, "no model 'a\\x00b'"),
    ("POST", "/v1/models/nobody:uncertainty", ask(), 404, None, "no model 'nobody'"),
    ("POST", "/v1/models/nobody:dropout", ask(), 404, None, "no model 'nobody'"),
    ("POST", "/v1/models/strength/versions/9:predict", ask(), 404, None, "no version '9'"),
    ("POST", "/v1/models/strength/versions/x:predict", ask(), 404, None, "no version 'x'"),
    ("POST", "/v1/models/strength/versions/-1:predict", ask(), 404, None, "no version '-1'"),
    ("POST", "/v1/models/strength/labels/canary:predict", ask(), 404, None, "no alias 'canary'"),
    ("POST", "/v1/models/..%2f..%2fetc:predict", ask(), 404, None, "nothing at"),
    ("GET", "/v1/models/nobody", None, 404, None, "no model 'nobody'"),
    ("GET", "/v1/models/strength/versions/9", None, 404, None, "no version '9'"),
    ("GET", "/v1/models/strength/versions/99999999999999999999", None, 404, None, "no version"),
    ("GET", "/v1/models/strength/versions/9/artifact", None, 404, None, "no version '9'"),
    ("DELETE", "/v1/models/strength/versions/9", None, 404, None, "no version '9'"),
    ("GET", "/v1/models?after=nobody", None, 404, None, "no model 'nobody'"),
    ("GET", "/v1/datasets/ds_nothing", None, 404, None, "no dataset 'ds_nothing'"),
    ("DELETE", "/v1/datasets/ds_nothing", None, 404, None, "no dataset"),
    ("GET", "/v1/datasets?after=ds_nothing", None, 404, None, "no dataset"),
    ("GET", f"{J}/job_nothing", None, 404, None, "no training job 'job_nothing'"),
    ("GET", f"{J}/job_nothing/events", None, 404, None, "no training job"),
    ("POST", f"{J}/job_nothing:cancel", None, 404, None, "no training job"),
    ("POST", f"{J}/job_nothing:resume", None, 404, None, "no training job"),
    ("GET", f"{J}?after=job_nothing", None, 404, None, "no training job"),
    ("GET", "/nothing", None, 404, None, "nothing at /nothing"),
    ("POST", "/v1/models/strength:explode", ask(), 404, None,
     "no verb 'explode' (the verbs are predict, uncertainty, dropout, feedback)"),
    ("POST", "/v1/models/strength:predicts", ask(), 404, None, "near it: predict"),
    ("POST", "/v1/models/strength/versions/1:predicts", ask(), 404, None, "near it: predict"),
    ("POST", "/v1/models/strength/labels/production:x", ask(), 404, None, "no verb 'x'"),
    ("POST", "/v1/models/strength", ask(), 405, None, "POST is not possible"),
    ("DELETE", P, None, 405, None, "DELETE is not possible"),
    ("PATCH", "/v1/models", None, 405, None, "PATCH is not possible"),
    # Aliases and versions.
    ("PUT", A, {}, 422, ["version"], "is due"),
    ("PUT", A, {"version": "2"}, 422, ["version"], "a whole number is due"),
    ("PUT", A, {"version": 0}, 422, ["version"], "greater than or equal to 1"),
    ("PUT", A, {"version": 9}, 404, None, "no version '9'"),
    ("PUT", "/v1/models/nobody/aliases/production", {"version": 1}, 404, None, "no model"),
    ("PUT", "/v1/models/strength/aliases/a%20b", {"version": 1}, 404, None, "cannot be an alias"),
    ("DELETE", "/v1/models/strength/versions/2", None, 409, None, "production"),
    # Datasets.
    ("POST", "/v1/datasets", b"", 422, None, "the body is empty"),
    ("POST", "/v1/datasets", b"a,b\n", 422, None, "no rows"),
    ("POST", "/v1/datasets", b"a,b\n1,2\n3\n", 422, None, "line 3: CSV parse error"),
    ("POST", "/v1/datasets", b"a,a\n1,2\n", 422, ["a"], "stands on two columns"),
    ("POST", "/v1/datasets", b'{"a": 1}\n{"a"', 422, None, "not readable as ndjson"),
    ("POST", "/v1/datasets", b"PAR1xxxxxxxxxxxxxxxx", 422, None, "not readable as parquet"),
    ("POST", "/v1/datasets", b"a,caf\xe9\n1,2\n", 422, None, "column's name is not UTF-8"),
    ("POST", "/v1/datasets", "a,b\n1,2\n".encode("utf-16"), 422, None, "save it as UTF-8"),
    ("POST", "/v1/datasets", b"PK\x03\x04xl", 422, None, "zip or Excel file"),
    ("POST", "/v1/datasets", b"a\0b,c\n1,2\n", 422, None, "control characters: 'a\\x00b'"),
    ("POST", "/v1/datasets?name=x.ndjson", b"null\n", 422, None, "line 1 is not an object"),
    ("POST", "/v1/datasets?name=x.ndjson", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 422, None,
     "line 1 is nested too deep"),
    ("POST", "/v1/datasets?name=", b"a\n1\n", 422, ["query", "name"], "at least 1 character"),
    ("GET", "/v1/datasets?limit=0", None, 422, ["query", "limit"], "greater than or equal to 1"),
    ("GET", "/v1/datasets?limit=x", None, 422, ["query", "limit"], "a whole number is due"),
    # Training jobs.
    ("POST", J, {}, 422, ["model"], "is due"),
    ("POST", J, job(model="../up"), 422, ["model"], "has to be 1 to 64 letters"),
    ("POST", J, job(model=""), 422, ["model"], "has to be 1 to 64 letters"),
    ("POST", J, job(model="m" * 65), 422, ["model"], "has to be 1 to 64 letters"),
    ("POST", J, job(dataset="ds_nothing"), 404, ["dataset"], "no dataset 'ds_nothing'"),
    ("POST", J, job(dataset=7), 422, ["dataset"], "a text is due"),
    ("POST", J, job(target="yy"), 422, ["target"], "near it: y"),
    ("POST", J, job(task="ranking"), 422, ["task"], "'regression'"),
    ("POST", J, job(validation_fraction=0), 422, ["validation_fraction"], "greater than 0"),
    ("POST", J, job(calibration_fraction=0.9), 422, ["calibration_fraction"], "less than"),
    ("POST", J, job(seed=1.5), 422, ["seed"], "a whole number is due"),
    ("POST", J, job(device="tpu"), 422, ["device"], "has to be `auto`, `cpu`"),
    ("POST", J, job(promote="maybe"), 422, ["promote"], "'always'"),
    ("POST", J, job(metadata=["a"]), 422, ["metadata"], "an object is due"),
    ("POST", J, job(metadata={str(i): i for i in range(17)}), 422, ["metadata"], "at most 16"),
    ("POST", J, job(colour="red"), 422, ["colour"], "is not a field here"),
    ("POST", J, job(metadata={"a": 2**64}), 422, ["metadata", "a"], "a finite number"),
    ("POST", J, job(metadata={"a": "b\0"}), 422, ["metadata", "a"], "a text of at most 500"),
    ("POST", J, hyper(dropout={"kind": "concrete", "p": []}), 422,
     ["hyperparameters", "dropout", "p"], "0 values for 2 hidden layers"),
    ("POST", J, job(metadata={"a": {"b": 1}}), 422, ["metadata", "a"], "a text of at most 500"),
    ("POST", J, job(metadata={"k" * 65: 1}), 422, ["metadata", "k" * 64, "[key]"], "pattern"),
    ("POST", J, job(device="cuda:99999999999"), 422, ["device"], "has to be `auto`, `cpu`"),
    ("POST", J, job(target="t" * 201), 422, ["target"], "at most 200"),
    ("POST", J, hyper(early_stopping_patience=10**30), 422,
     ["hyperparameters", "early_stopping_patience"], "less than"),
    ("POST", J, hyper(dropout={"p": 5e-324}), 422,
     ["hyperparameters", "dropout", "p"], "a number from 0.0001 to less than 1"),
    ("POST", J, hyper(dropout={"kind": "concrete", "p": 0.9999}), 422,
     ["hyperparameters", "dropout", "p"], "concrete dropout learns from a p of at most 0.999"),
    ("POST", J, hyper(**{str(i): 1 for i in range(10_001)}), 422, ["hyperparameters"],
     "10001 names in one object are more than the 10000 allowed"),
    ("POST", J, hyper(hidden=[]), 422, ["hyperparameters", "hidden"], "at least 1"),
    ("POST", J, hyper(hidden=[0]), 422, ["hyperparameters", "hidden", 0], "greater than"),
    ("POST", J, hyper(hidden=[10**9]), 422, ["hyperparameters", "hidden", 0], "less than"),
    ("POST", J, hyper(hidden=256), 422, ["hyperparameters", "hidden"], "an array is due"),
    ("POST", J, hyper(hidden=[8192] * 16), 422, ["hyperparameters", "hidden"], "the most is"),
    ("POST", J, hyper(activation="step"), 422, ["hyperparameters", "activation"], "'relu'"),
    ("POST", J, hyper(dropout={"p": 1.0}), 422,
     ["hyperparameters", "dropout", "p"], "less than 1 is due"),
    ("POST", J, hyper(dropout={"p": "Auto"}), 422, ["hyperparameters", "dropout", "p"],
     '"auto", 0, a number from 0.0001 to less than 1, or a list of such numbers is due'),
    ("POST", J, hyper(dropout={"p": ["auto", 0.1]}), 422, ["hyperparameters", "dropout", "p"],
     "0, or a number from 0.0001 to less than 1 is due"),
    ("POST", J, hyper(dropout={"input_p": "auto"}), 422,
     ["hyperparameters", "dropout", "input_p"], "0, or a number from"),
    ("POST", J, hyper(dropout={"kind": "alpha"}), 422,
     ["hyperparameters", "dropout", "kind"], "'bernoulli'"),
    ("POST", J, hyper(dropout={"p": [0.1]}), 422, ["hyperparameters", "dropout", "p"],
     "1 values for 2 hidden layers"),
    ("POST", J, hyper(dropout=0.1), 422, ["hyperparameters", "dropout"],
     'an object is due, such as {"kind": "bernoulli", "p": 0.1}'),
    ("POST", J, hyper(dropout={"kinds": "concrete"}), 422,
     ["hyperparameters", "dropout", "kinds"], "near it: kind"),
    ("POST", J, hyper(epochs=0), 422, ["hyperparameters", "epochs"], "greater than"),
    ("POST", J, hyper(learning_rate=-1), 422, ["hyperparameters", "learning_rate"], "greater"),
    ("POST", J, hyper(momentum=0.9), 422, ["hyperparameters", "momentum"], "is not a field here"),
    ("GET", f"{J}?status=lost", None, 422, ["query", "status"], "'queued'"),
    ("GET", f"{J}?limit=1000", None, 422, ["query", "limit"], "less than or equal to 100"),
    ("GET", f"{J}/x/events?after=-1", None, 422, ["query", "after"], "greater than"),
    ("GET", f"{J}/x/events?after={2**31}", None, 422, ["query", "after"], "less than"),
    ("GET", f"{J}/x/events?order=up", None, 422, ["query", "order"], "'asc'"),
]  # fmt: skip


def test_there_are_many() -> None:
    assert len(BAD) >= 60


def assert_problem(response: httpx.Response, status: int) -> dict:
    """The shape of RFC 9457, the same for every error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    Problem.model_validate(body)
    assert set(body) - {"errors"} == {
        "type", "title", "status", "detail", "instance", "request_id",
    }  # fmt: skip
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["instance"] == response.request.url.path
    assert body["title"]
    return body


async def test_every_bad_request_gets_the_contracts_error(serve: Callable) -> None:
    """One application answers them all, and is none the worse for it."""
    app = await serve(max_rows=50, max_work=500_000_000, max_returned_samples=200_000)
    csv = b"age,y\n" + b"".join(b"%d,%d\n" % (i % 17, i) for i in range(50))
    uploaded = await app.client.post("/v1/datasets", content=csv)
    dataset = uploaded.json()["id"]
    wrong = []
    for method, path, body, status, loc, text in BAD:
        content = body
        if not isinstance(body, bytes):
            content = None if method in ("GET", "DELETE") else json.dumps(body).encode()
            if content is not None:
                content = content.replace(b"DATASET", dataset.encode())
        response = await app.client.request(method, path, content=content)
        try:
            problem = assert_problem(response, status)
            if loc is not None:
                assert problem["errors"][0]["loc"] == loc
                assert text in problem["errors"][0]["msg"]
            assert text in problem["detail"]
        except AssertionError as error:
            wrong.append(f"{method} {path} {str(body)[:80]}: {response.text[:300]}\n  {error}")
    assert not wrong, "\n".join(wrong)
    assert (await app.client.post(P, json=ask())).status_code == 200
    assert (await app.client.get(J)).json()["data"] == []


async def test_plain_words_for_whatever_is_of_the_wrong_kind(client: httpx.AsyncClient) -> None:
    """Nothing of pydantic's own words, for any field of any request."""
    for path, kind, known in ((U, UncertaintyRequest, ask()), (J, TrainingJobRequest, job())):
        for field in kind.model_fields:
            for value in (None, True, 10**30, 1e400, "", [None], {"": None}):
                body = json.dumps(known | {field: value}).encode()
                response = await client.post(path, content=body)
                for fault in response.json().get("errors", []):
                    words = ("Input", "valid ", "should", "permitted", "required", "instance of")
                    assert not any(word in fault["msg"] for word in words), fault


async def test_unknown_names_without_end_make_a_short_answer(client: httpx.AsyncClient) -> None:
    many = {f"{i:0200}": 0 for i in range(20_000)}
    response = await client.post(P, json=rows(ROW | many, ROW | many))
    assert len(assert_problem(response, 422)["errors"]) == 100
    assert len(response.content) < 30_000
    some = dict(list(many.items())[:5000])
    response = await client.post(U, json=ask(**some))
    assert len(assert_problem(response, 422)["errors"]) == 100
    assert len(response.content) < 30_000


async def test_a_body_over_the_limit_is_413(serve: Callable) -> None:
    app = await serve(max_body_bytes=2000, max_dataset_bytes=3000)
    large = json.dumps(rows(*[ROW] * 100)).encode()

    async def in_pieces():
        for i in range(0, len(large), 500):
            yield large[i : i + 500]

    for path in (P, U, D, J):
        for content in (large, in_pieces()):
            response = await app.client.post(path, content=content)
            assert "2000 bytes" in assert_problem(response, 413)["detail"]
    csv = b"a,b\n" + b"1,2\n" * 1000
    assert_problem(await app.client.post("/v1/datasets", content=csv), 413)
    response = await app.client.post("/v1/datasets", files={"file": ("t.csv", csv, "text/csv")})
    assert_problem(response, 413)
    assert (await app.client.post(P, json=ask())).status_code == 200


async def test_multipart_faults(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/datasets", files={"data": ("t.csv", b"a\n1\n")})
    assert assert_problem(response, 422)["errors"][0]["loc"] == ["file"]
    response = await client.post("/v1/datasets", data={"file": "text"}, files={"x": b"1"})
    assert_problem(response, 422)
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        headers = {"content-type": content_type}
        response = await client.post("/v1/datasets", content=b"not multipart", headers=headers)
        assert_problem(response, 400)


@pytest.mark.parametrize("key", ["", "k" * 256, "with space"])
async def test_an_idempotency_key_is_checked(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post(J, json=job(), headers={"Idempotency-Key": key})
    problem = assert_problem(response, 422)
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]


async def test_an_input_that_makes_the_network_overflow_is_named(serve: Callable) -> None:
    """Finite inputs, infinite outputs: never a NaN on the wire."""
    app = await serve()
    plan = (await app.app.state.inference.find(Address("strength"))).plan
    for weight in plan.weights:
        weight.mul_(1e30)
    object.__setattr__(plan, "kernel", Weights.of(plan.config, plan.weights, plan.biases))
    for path in (P, U, D):
        problem = assert_problem(await app.client.post(path, json=ask()), 422)
        assert problem["errors"][0]["loc"] == ["instances", 0]
        assert "finite" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (P, "POST"),
        (A, "DELETE, PUT"),
        (J, "GET, POST"),
        (f"{J}/x:cancel", "POST"),
        ("/v1/datasets/x", "DELETE, GET"),
        ("/v1/models/m/versions/1", "DELETE, GET"),
    ],
)
async def test_a_method_that_is_not_possible_is_told_which_are(
    client: httpx.AsyncClient, path: str, methods: str
) -> None:
    response = await client.patch(path)
    assert_problem(response, 405)
    assert response.headers["allow"] == methods

"""Open Inference Protocol: bodies that lie, and everything else that is answered with an error."""

import gzip
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.inference import Address
from service.schemas import InferProblem
from tests.http.oip import NUMPY, SITES, SPECIES, STRENGTH, bird_table, pack, tensor

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


LENGTH = "Inference-Header-Content-Length"


def assert_problem(response: httpx.Response, status: int) -> dict:
    """The members of every error, and the text where the protocol's clients look."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    InferProblem.model_validate(body)
    assert set(body) - {"errors"} == {
        "type", "title", "status", "detail", "instance", "request_id", "error",
    }  # fmt: skip
    assert body["status"] == status
    assert body["error"] == body["detail"] != ""
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def inputs(*given: dict, **more: Any) -> dict:
    return {"inputs": list(given)} | more


def binary(name: str, datatype: str, shape: list, size: Any, **more: Any) -> dict:
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters} | more


def mc(**parameters: Any) -> dict:
    return SITES | {"parameters": {"mode": "mc_dropout"} | parameters}


AGE, WATER, SITE = (given for given in SITES["inputs"])
ONE = [tensor("age", "FP64", [1.0]), tensor("site", "BYTES", ["north"])]
TOO_LARGE = 2**63 - 1

# The JSON part, the binary data behind it, status, place of the first fault, part of its text.
BAD_TENSORS: list[tuple[dict, bytes, int, list | None, str]] = [
    # Sizes that contradict the body.
    (inputs(binary("input", "FP32", [1, 3], 12)), b"\0" * 11, 422,
     ["inputs", 0, "parameters", "binary_data_size"], "11 bytes are left in the body, not 12"),
    (inputs(binary("input", "FP32", [1, 3], 12)), b"", 422,
     ["inputs", 0, "parameters", "binary_data_size"], "0 bytes are left"),
    (inputs(binary("input", "FP32", [1, 3], 12)), b"\0" * 13, 400, None, "13 bytes follow"),
    (inputs(*ONE), b"\0", 400, None, "1 bytes follow the JSON"),
    (inputs(binary("age", "FP32", [1], 4), binary("water", "FP32", [1], 4), ONE[1]), b"\0" * 4,
     422, ["inputs", 1, "parameters", "binary_data_size"], "0 bytes are left in the body, not 4"),
    *[
        (inputs(binary("input", "FP32", [1, 3], size)), b"\0" * 12, 422,
         ["inputs", 0, "parameters", "binary_data_size"], text)
        for size, text in (
            (-1, "a number of bytes is due"), (-(2**63), "a number of bytes is due"),
            ("12", "a number of bytes"), (12.0, "a number of bytes"), (True, "a number of bytes"),
            ([12], "a number of bytes"), (TOO_LARGE, "are left in the body"),
            (2**400, "are left in the body"), (0, "takes 12 bytes, not 0"),
            (8, "takes 12 bytes, not 8"),
        )
    ],
    # Shapes that contradict the size.
    (inputs(binary("input", "FP64", [1, 3], 12)), b"\0" * 12, 422,
     ["inputs", 0, "parameters", "binary_data_size"], "FP64 of shape [1, 3] takes 24 bytes"),
    (inputs(binary("input", "FP32", [TOO_LARGE, TOO_LARGE], 12)), b"\0" * 12, 422,
     ["inputs", 0, "parameters", "binary_data_size"], "takes 340282366920938463389"),
    (inputs(binary("input", "FP32", [2**62, 4], 0)), b"", 422,
     ["inputs", 0, "parameters", "binary_data_size"], "takes 73786976294838206464 bytes, not 0"),
    (inputs(binary("input", "FP32", [TOO_LARGE, 0], 0)), b"", 422,
     ["inputs", 0, "shape"], "a column for each of the 3 features"),
    (inputs(binary("input", "FP32", [0, 3], 0)), b"", 422, ["inputs", 0, "shape", 0],
     "at least one row"),
    (inputs(binary("site", "BYTES", [TOO_LARGE], 8)), b"\0" * 8, 422,
     ["inputs", 0, "parameters", "binary_data_size"], "at least 36893488147419103228 bytes"),
    (inputs(binary("input", "FP32", [-1, 3], 12)), b"\0" * 12, 422, ["inputs", 0, "shape", 0],
     "greater than or equal to 0"),
    (inputs(binary("input", "FP32", [2**64, 3], 12)), b"\0" * 12, 422, ["inputs", 0, "shape", 0],
     "less than"),
    (inputs(binary("input", "FP32", [1.0, 3], 12)), b"\0" * 12, 422, ["inputs", 0, "shape", 0],
     "a whole number"),
    (inputs(binary("input", "FP32", [True, 3], 12)), b"\0" * 12, 422, ["inputs", 0, "shape", 0],
     "a whole number"),
    (inputs(binary("input", "FP32", [], 4)), b"\0" * 4, 422, ["inputs", 0, "shape"], "at least 1"),
    (inputs(binary("input", "FP32", [1, 3, 1], 12)), b"\0" * 12, 422, ["inputs", 0, "shape"],
     "at most 2"),
    (inputs(binary("input", "FP32", [3], 12)), b"\0" * 12, 422, ["inputs", 0, "shape"],
     "a column for each of the 3 features is due, not shape [3]"),
    (inputs(binary("age", "FP32", [1, 2], 8), ONE[1]), b"\0" * 8, 422, ["inputs", 0, "shape"],
     "of shape [1] or [1, 1], not [1, 2]"),
    (inputs(binary("age", "FP32", [2], 8), ONE[1]), b"\0" * 8, 422, ["inputs", 1, "shape", 0],
     "has 1 rows, and the first input 2"),
    # Data twice, or not at all.
    (inputs(binary("age", "FP32", [1], 4, data=[1.0]), ONE[1]), b"\0" * 4, 422,
     ["inputs", 0, "parameters", "binary_data_size"], "not both"),
    (inputs({"name": "age", "datatype": "FP32", "shape": [1]}, ONE[1]), b"", 422,
     ["inputs", 0, "data"], "data, or binary_data_size, is due"),
    (inputs(ONE[0], ONE[0], ONE[1]), b"", 422, ["inputs", 1, "name"], "is there twice"),
    (inputs(binary("age", "FP32", [1], 4), binary("age", "FP32", [1], 4), ONE[1]), b"\0" * 8, 422,
     ["inputs", 1, "name"], "is there twice"),
    # BYTES whose lengths lie.
    *[
        (inputs(ONE[0], binary("site", "BYTES", [n], len(data))), data, 422,
         ["inputs", 1, *place], text)
        for n, data, place, text in (
            (1, struct.pack("<I", 6) + b"north", ["data", 0], "says 6 bytes, and 5 are left"),
            (1, struct.pack("<I", 2**32 - 1) + b"north", ["data", 0], "says 4294967295 bytes"),
            (1, struct.pack("<I", 4) + b"north", ["parameters", "binary_data_size"],
             "1 bytes are left after its 1 elements"),
            (1, b"\5\0\0", ["parameters", "binary_data_size"], "at least 4 bytes, not 3"),
            (1, struct.pack("<I", 2) + b"\xff\xfe", ["data", 0], "in UTF-8"),
        )
    ],
    (inputs(tensor("age", "FP64", [1.0, 2.0]), binary("site", "BYTES", [2], 12)),
     struct.pack("<I", 8) + b"\0" * 8, 422, ["inputs", 1, "data", 1], "end before element 1 of 2"),
    # Types.
    (inputs(tensor("age", "FLOAT", [1.0]), ONE[1]), b"", 422, ["inputs", 0, "datatype"], "'BOOL'"),
    (inputs(tensor("age", "BF16", [1.0]), ONE[1]), b"", 422, ["inputs", 0, "datatype"], "'FP16'"),
    (inputs(tensor("age", "BYTES", ["1"]), ONE[1]), b"", 422, ["inputs", 0, "datatype"],
     "numbers are due, not BYTES"),
    (inputs(tensor("age", "BOOL", [True]), ONE[1]), b"", 422, ["inputs", 0, "datatype"],
     "numbers are due, not BOOL"),
    (inputs(ONE[0], tensor("site", "FP32", [1.0])), b"", 422, ["inputs", 1, "datatype"],
     "categories are due"),
    (inputs(tensor("input", "BYTES", ["a", "b", "c"], [1, 3])), b"", 422,
     ["inputs", 0, "datatype"], "numbers are due"),
    (inputs(ONE[0], binary("site", "BOOL", [1], 1)), b"\2", 422, ["inputs", 1, "data", 0],
     "the byte 0 or 1, not 2"),
    (inputs(tensor("age", "FP32", ["1"]), ONE[1]), b"", 422, ["inputs", 0, "data", 0],
     "a number is due, not a text"),
    (inputs(tensor("age", "FP32", [True]), ONE[1]), b"", 422, ["inputs", 0, "data", 0],
     "a number is due, not a boolean"),
    (inputs(tensor("age", "FP32", [[[1.0]]], [1, 1]), ONE[1]), b"", 422,
     ["inputs", 0, "data", 0], "a number is due, not an array"),
    (inputs(tensor("age", "INT8", [1.5]), ONE[1]), b"", 422, ["inputs", 0, "data", 0],
     "a whole number is due, not a fraction"),
    (inputs(ONE[0], tensor("site", "BYTES", [1])), b"", 422, ["inputs", 1, "data", 0],
     "a text is due, not a number"),
    (inputs(ONE[0], tensor("site", "BOOL", [1])), b"", 422, ["inputs", 1, "data", 0],
     "true or false is due, not a number"),
    (inputs(tensor("age", "FP32", [[1.0], [2.0, 3.0]], [2, 1]), ONE[1]), b"", 422,
     ["inputs", 1, "shape", 0], "has 1 rows"),
    (inputs(tensor("input", "FP32", [[1.0, 2.0, 0.0], [2.0, 3.0]], [2, 3])), b"", 422,
     ["inputs", 0, "data", 1], "2 arrays of 3 values are due"),
    (inputs(tensor("input", "FP32", [[1.0, 2.0, 0.0], 1.0], [2, 3])), b"", 422,
     ["inputs", 0, "data", 1], "2 arrays of 3 values are due"),
    (inputs(tensor("input", "FP32", [[1.0, 2.0, 0.0]], [2, 3])), b"", 422,
     ["inputs", 0, "data"], "2 arrays of 3 values are due"),
    (inputs(tensor("input", "FP32", [1.0, 2.0], [1, 3])), b"", 422, ["inputs", 0, "data"],
     "has 3 values, not 2"),
    (inputs(tensor("age", "FP32", [], [1]), ONE[1]), b"", 422, ["inputs", 0, "data"],
     "has 1 values, not 0"),
    # Numbers that do not fit their type.
    *[
        (inputs(tensor("age", datatype, [value]), ONE[1]), b"", 422, ["inputs", 0, "data", 0],
         f"does not fit {datatype}")
        for datatype, value in (
            ("FP16", 65520), ("FP32", 1e39), ("FP64", 10**400), ("FP32", -(10**400)),
            ("INT8", 128), ("INT8", -129), ("UINT8", -1), ("UINT8", 256), ("INT16", 2**15),
            ("UINT16", 2**16), ("INT32", 2**31), ("UINT32", 2**32), ("INT64", 2**63),
            ("INT64", -(2**63) - 1), ("UINT64", 2**64), ("UINT64", -1), ("UINT64", 10**400),
        )
    ],
    # Values that do not fit the model.
    (inputs(tensor("age", "FP64", [1.0, None]), tensor("site", "BYTES", ["a", "b"])), b"", 422,
     ["inputs", "age", 1], "is missing"),
    (inputs(binary("age", "FP32", [1], 4), ONE[1]), struct.pack("<f", float("nan")), 422,
     ["inputs", "age", 0], "is missing"),
    (inputs(binary("age", "FP32", [1], 4), ONE[1]), struct.pack("<f", float("-inf")), 422,
     ["inputs", "age", 0], "finite"),
    (inputs(tensor("age", "FP64", [1e300]), ONE[1]), b"", 422, ["inputs", "age", 0], "too far"),
    (inputs(ONE[0], tensor("site", "BYTES", [""])), b"", 422, ["inputs", "site", 0], "is missing"),
    (inputs(ONE[0]), b"", 422, ["inputs"], "there is none for site"),
    (inputs(*ONE, tensor("wter", "FP32", [1.0])), b"", 422, ["inputs", 2, "name"],
     "is not a feature of this model; near it: water"),
    (inputs(*ONE, tensor("strength", "FP32", [1.0])), b"", 422, ["inputs", 2, "name"], "target"),
    (inputs(*ONE, tensor("input", "FP32", [1.0, 2.0, 0.0], [1, 3])), b"", 422,
     ["inputs", 2, "name"], "it is the only input, or there is one for each feature: age, water"),
    (inputs(tensor("input", "FP32", [1.0, 2.0, 3.0], [1, 3])), b"", 422, ["inputs", "site", 0],
     "has 3 categories, counted from 0 in the card's order, and none at 3"),
    (inputs(tensor("input", "FP32", [1.0, 2.0, 0.5], [1, 3])), b"", 422, ["inputs", "site", 0],
     "none at 0.5"),
    (inputs(tensor("input", "FP32", [1.0, 2.0, -1], [1, 3])), b"", 422, ["inputs", "site", 0],
     "none at -1"),
    (inputs(tensor("input", "FP32", [1.0, 2.0, None], [1, 3])), b"", 422, ["inputs", "site", 0],
     "is missing"),
    (inputs(ONE[0], tensor("site", "BYTES", ["north"]) | {"parameters": {
        "content_type": "pd_json"}}), b"", 422, ["inputs", 1, "data", 0], "JSON is due"),
    (inputs(ONE[0], tensor("site", "BYTES", ["[1]"]) | {"parameters": {
        "content_type": "pd_json"}}), b"", 422, ["inputs", "site", 0], "not an array"),
    # Rows, and what is not offered.
    (inputs(tensor("age", "FP64", [1.0] * 51), tensor("site", "BYTES", ["a"] * 51)), b"", 422,
     ["inputs"], "51 rows are more than the 50"),
    (inputs(binary("input", "INT8", [51, 3], 153)), b"\0" * 153, 422, ["inputs"], "51 rows"),
    (inputs(AGE | {"parameters": {"shared_memory_region": "x"}}), b"", 422,
     ["inputs", 0, "parameters"], "shared memory"),
    # The request's own fields.
    ({}, b"", 422, ["inputs"], "is due"),
    (inputs(), b"", 422, ["inputs"], "at least 1"),
    ({"inputs": {}}, b"", 422, ["inputs"], "an array is due"),
    (inputs({}), b"", 422, ["inputs", 0, "name"], "is due"),
    (inputs(*ONE, id=7), b"", 422, ["id"], "a text is due"),
    (inputs(*ONE, parameters=[]), b"", 422, ["parameters"], "an object is due"),
    (inputs(*ONE, outputs=[{"name": "outputs"}]), b"", 422, ["outputs", 0, "name"],
     "not an output of mode eval (output); near it: output"),
    (inputs(*ONE, outputs=[{"name": "output"}, {"name": "mean"}]), b"", 422,
     ["outputs", 1, "name"], "it is one of mode mc_dropout"),
    (inputs(*ONE, outputs=[{"name": "label"}]), b"", 422, ["outputs", 0, "name"], "not an output"),
    (inputs(*ONE, outputs=[{"name": "output"}] * 2), b"", 422, ["outputs", 1, "name"], "twice"),
    (inputs(*ONE, outputs=[{"name": "output", "parameters": {"binary_data": 1}}]), b"", 422,
     ["outputs", 0, "parameters", "binary_data"], "true or false is due"),
    (inputs(*ONE, outputs=[{"name": "output", "parameters": {"classification": 2}}]), b"", 422,
     ["outputs", 0, "parameters", "classification"], "is not offered"),
    (inputs(*ONE, parameters={"binary_data_output": "yes"}), b"", 422,
     ["parameters", "binary_data_output"], "true or false is due"),
    *[
        (mc(**{name: value}), b"", 422, ["parameters", name], text)
        for name, value, text in (
            ("mode", "mc", "'eval' or 'mc_dropout'"), ("mode", None, "'eval'"),
            ("n_samples", 1, "greater than"), ("n_samples", "100", "a whole number"),
            ("n_samples", 10_001, "less than"), ("seed", -1, "greater than"),
            ("seed", 1.5, "a whole number"), ("estimator", "magic", "'auto'"),
            ("tolerance", 0, "greater than"), ("deadline_ms", -1, "greater than"),
            ("quantiles", [0.5], "as a text with commas"), ("quantiles", "half", "as a text"),
            ("quantiles", "0.5,,0.9", "as a text"), ("quantiles", "0," * 9999, "as a text"),
            ("n_sample", 10, "near it: n_samples"), ("quantile", "0.5", "near it: quantiles"),
        )
    ],
    (mc(quantiles="0.5, 1"), b"", 422, ["parameters", "quantiles", 1], "less than 1"),
    (mc(quantiles="nan"), b"", 422, ["parameters", "quantiles", 0], "finite"),
    (mc(quantiles=",".join(["0.5"] * 101)), b"", 422, ["parameters", "quantiles"], "at most 100"),
    (mc(n_samples=10_000, estimator="mc"), b"", 422, ["parameters", "n_samples"], "multiply-adds"),
    (mc(n_samples=5000) | {"outputs": [{"name": "samples"}]}, b"", 422, ["outputs"],
     "15000 sample values in one answer are more than the 10000"),
    (mc(estimator="analytic") | {"outputs": [{"name": "samples"}]}, b"", 422, None,
     "draws no samples"),
    (mc() | {"outputs": [{"name": "entropy"}]}, b"", 422, ["outputs", 0, "name"],
     "not an output of mode mc_dropout"),
]  # fmt: skip


async def test_every_bad_request_gets_its_place_and_reason(serve: Callable) -> None:
    app = await serve(max_rows=50, max_work=500_000_000, max_returned_samples=10_000)
    wrong = []
    for head, data, status, loc, text in BAD_TENSORS:
        body = json.dumps(head).encode()
        headers = {LENGTH: str(len(body))} if data else {}
        response = await app.client.post(STRENGTH, content=body + data, headers=headers)
        try:
            problem = assert_problem(response, status)
            if loc is not None:
                assert problem["errors"][0]["loc"] == loc
                assert text in problem["errors"][0]["msg"]
            assert text in problem["error"]
        except AssertionError as error:
            wrong.append(f"{str(head)[:200]} {data[:20]!r}: {response.text[:400]}\n  {error}")
    assert not wrong, "\n".join(wrong)
    assert (await app.client.post(STRENGTH, json=SITES)).status_code == 200


async def test_bodies_that_cannot_be_cut(client: httpx.AsyncClient) -> None:
    body, headers = pack(bird_table())
    length = int(headers[LENGTH])
    for value, text in (
        ("-1", "one whole number"), ("+5", "one whole number"), ("1e3", "one whole number"),
        ("", "one whole number"), ("٣", "one whole number"), ("9" * 30, "one whole number"),
        (str(len(body) + 1), f"says {len(body) + 1} bytes, and the body has {len(body)}"),
        (str(2**62), "and the body has"), (str(length - 1), "not JSON"),
        (str(length + 1), "not JSON"), (str(len(body)), "not JSON"), ("1", "not JSON"),
    ):  # fmt: skip
        response = await client.post(SPECIES, content=body, headers={LENGTH: value.encode()})
        assert text in assert_problem(response, 400)["error"]
    two = [(LENGTH, str(length)), (LENGTH, "5")]
    assert_problem(await client.post(SPECIES, content=body, headers=two), 400)
    for content in (b"", b" ", b"{", b"\xff", b"[" * 5000, body, b'{"id": "\\ud800"}'):
        assert_problem(await client.post(SPECIES, content=content), 400)
    for content in (b"[]", b"3", b"null", b'"text"'):
        assert_problem(await client.post(SPECIES, content=content), 422)
    for content in (b"", b"\0" * 7, b"\0" * 9):
        response = await client.post(SPECIES, content=content, headers={LENGTH: "0"})
        assert "rows of 2 FP32 values" in assert_problem(response, 400)["error"]
    infinite = struct.pack("<2f", 1.0, float("inf"))
    response = await client.post(SPECIES, content=infinite, headers={LENGTH: "0"})
    assert assert_problem(response, 422)["errors"][0]["loc"] == ["inputs", "mass", 0]


async def test_a_truncated_body_at_any_byte(client: httpx.AsyncClient) -> None:
    """Whatever is cut off, it is an error of the client's."""
    body, headers = pack(SITES)
    for end in [*range(0, len(body), 7), len(body) - 1]:
        response = await client.post(STRENGTH, content=body[:end], headers=headers)
        assert response.status_code in (400, 422), end
        assert_problem(response, response.status_code)


async def test_what_a_body_claims_takes_no_memory(serve: Callable) -> None:
    """Sizes and shapes of petabytes, and bombs: refused for a few times the body's limit."""
    app = await serve(max_body_bytes=2**20)
    claims = [
        inputs(binary("input", "FP64", [2**40, 3], 3 * 2**43)),
        inputs(binary("input", "INT8", [2**62, 2**62], 0)),
        inputs(ONE[0], binary("site", "BYTES", [2**40], 2**42)),
        inputs(tensor("age", "FP32", [1.0], [2**60]), tensor("site", "BYTES", ["a"], [2**60])),
        inputs(binary("input", "INT8", [2**18, 3], 3 * 2**18)),
    ]
    bodies = [(json.dumps(claim).encode(), {}) for claim in claims]
    bodies[-1] = (bodies[-1][0] + b"\0" * 3 * 2**18, {LENGTH: str(len(bodies[-1][0]))})
    bomb = bytes(32 * 2**20)
    bodies += [
        (gzip.compress(bomb), {"content-encoding": "gzip"}),
        (zlib.compress(bomb), {"content-encoding": "deflate"}),
    ]
    del bomb
    await app.client.post(STRENGTH, json=SITES)
    tracemalloc.start()
    try:
        for body, headers in bodies:
            response = await app.client.post(STRENGTH, content=body, headers=headers)
            assert response.status_code in (413, 422)
            assert_problem(response, response.status_code)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


async def test_compressed_bodies_that_are_not(client: httpx.AsyncClient) -> None:
    body = json.dumps(bird_table()).encode()
    packed = gzip.compress(body)
    for content, encoding, status in (
        (body, "gzip", 400), (packed[:-1], "gzip", 400), (packed + b"x", "gzip", 400),
        (packed, "deflate", 400), (b"", "gzip", 400), (packed, "br", 415),
        (packed, "gzip, gzip", 415), (packed, "x" * 500, 415),
    ):  # fmt: skip
        response = await client.post(
            SPECIES, content=content, headers={"content-encoding": encoding}
        )
        assert_problem(response, status)
        if status == 415:
            assert response.headers["accept-encoding"] == "gzip, deflate"
    for encoding in ("identity", "GZIP ", "x-gzip"):
        content = body if encoding == "identity" else packed
        response = await client.post(
            SPECIES, content=content, headers={"content-encoding": encoding}
        )
        assert response.status_code == 200


async def test_errors_of_other_kinds_have_the_same_shape(
    serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve(max_body_bytes=2000)
    for method, path, status in (
        ("GET", "/v2/nothing", 404), ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404), ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/strength/versions/9", 404),
        ("GET", "/v2/models/strength/versions/x/ready", 404),
        ("POST", "/v2/models/strength/versions/-1/infer", 404),
        ("GET", STRENGTH, 405), ("POST", "/v2/models/strength", 405), ("PUT", "/v2", 405),
        ("DELETE", "/v2/health/live", 405), ("GET", "/v2/repository/index", 405),
    ):  # fmt: skip
        body = json.dumps(bird_table()).encode() if method == "POST" else None
        assert_problem(await app.client.request(method, path, content=body), status)
    assert_problem(await app.client.post(STRENGTH, content=b" " * 2001), 413)
    assert_problem(await app.client.post("/v2/repository/index", content=b" " * 2001), 413)
    no_dropout = SITES | {"parameters": {"mode": "mc_dropout"}}
    response = await app.client.post("/v2/models/plain/infer", json=no_dropout)
    assert "no active dropout" in assert_problem(response, 422)["error"]

    def broken(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("service.inference.evaluate_together", broken)
    response = await app.client.post(STRENGTH, json=SITES)
    assert "secret" not in assert_problem(response, 500)["error"]


async def test_the_doors_refusals_have_the_same_shape(serve: Callable) -> None:
    app = await serve(keys="required")
    assert_problem(await app.client.post(STRENGTH, json=SITES), 401)
    assert_problem(await app.client.get("/v2/models/strength"), 401)
    assert (await app.client.get("/v2/health/live")).status_code == 200


async def test_a_number_beyond_fp32_is_said(serve: Callable) -> None:
    """Answers are finite: a target in units so large that 32 bits do not hold it is refused."""
    app = await serve()
    loaded = await app.app.state.inference.find(Address("strength"))
    target = loaded.artifact.schema.target
    object.__setattr__(target, "mean", 1e39)
    response = await app.client.post(STRENGTH, json=SITES)
    assert "beyond FP32" in assert_problem(response, 422)["error"]


def test_every_type_has_its_bounds_tried() -> None:
    tried = {
        head["inputs"][0]["datatype"]
        for head, _, _, _, text in BAD_TENSORS
        if text.startswith("does not fit")
    }
    assert tried == set(NUMPY) - {"BOOL"}

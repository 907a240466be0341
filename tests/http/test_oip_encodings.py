"""Open Inference Protocol: outputs as bytes, raw and compressed bodies, and what clients add."""

import gzip
import itertools
import json
import zlib

import httpx
import numpy as np
import pytest

from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW
from tests.http.oip import (
    BIRDS,
    SITE_ROWS,
    SITES,
    SPECIES,
    STRENGTH,
    ask,
    ask_packed,
    bird_table,
    pack,
    predict,
    read,
    tensor,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


async def test_each_output_as_json_or_as_bytes(client: httpx.AsyncClient) -> None:
    """An output's own `binary_data` overrides the request's `binary_data_output`."""
    for whole, own in itertools.product([None, False, True], repeat=2):
        await ask_as_bytes(client, whole, own)


async def ask_as_bytes(client: httpx.AsyncClient, whole: bool | None, own: bool | None) -> None:
    outputs = [
        {"name": "label"} | ({} if own is None else {"parameters": {"binary_data": own}}),
        {"name": "output"},
    ]
    request = bird_table(outputs=outputs)
    if whole is not None:
        request["parameters"] = {"binary_data_output": whole}
    response = await client.post(SPECIES, json=request)
    length = response.headers.get("inference-header-content-length")
    head = json.loads(response.content if length is None else response.content[: int(length)])
    as_bytes = ["data" not in output for output in head["outputs"]]
    assert as_bytes == [bool(whole) if own is None else own, bool(whole)]
    plain = await ask(client, SPECIES, bird_table())
    answer = read(response)
    assert answer["label"] == plain["label"]
    np.testing.assert_array_equal(answer["output"], plain["output"])


async def test_a_raw_body_is_the_table(client: httpx.AsyncClient) -> None:
    response = await client.post(
        SPECIES, content=BIRDS.tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )
    answer = read(response)
    assert response.headers["content-type"] == "application/octet-stream"
    plain = await ask(client, SPECIES, bird_table())
    assert answer["label"] == plain["label"]
    np.testing.assert_array_equal(answer["output"], plain["output"])


async def test_the_id_comes_back_and_there_is_always_one(client: httpx.AsyncClient) -> None:
    for given in ("42", "", "ü" * 300):
        body = (await client.post(SPECIES, json=bird_table(id=given))).json()
        assert body["id"] == given
    response = await client.post(SPECIES, json=bird_table(id=None))
    assert response.json()["id"] == response.headers["x-request-id"]
    assert (response.json()["model_name"], response.json()["model_version"]) == ("species", "1")


async def test_every_address(client: httpx.AsyncClient) -> None:
    for path, version in (("", "2"), ("/versions/1", "1"), ("/versions/2", "2")):
        response = await client.post(f"/v2/models/strength{path}/infer", json=SITES)
        assert response.json()["model_version"] == version


async def test_content_types_do_not_matter(client: httpx.AsyncClient) -> None:
    """tritonclient sends none, and an answer is of the type that it has."""
    body, length = pack(bird_table())
    answers = []
    for content_type, accept in itertools.product(
        [None, "application/octet-stream", "application/json", "text/plain", "x"],
        [None, "application/json", "application/octet-stream", "text/html, */*;q=0.1"],
    ):
        request = client.build_request("POST", SPECIES, content=body, headers=length)
        del request.headers["accept"]
        for name, value in (("content-type", content_type), ("accept", accept)):
            if value is not None:
                request.headers[name] = value
        answers.append(read(await client.send(request)))
    assert len(answers) == 20
    for answer in answers:
        assert answer["label"] == answers[0]["label"]


async def test_compressed_both_ways(client: httpx.AsyncClient) -> None:
    request = bird_table(
        parameters={"mode": "mc_dropout", "binary_data_output": True}, outputs=[{"name": "samples"}]
    )
    plain = await ask_packed(client, SPECIES, request)
    body, headers = pack(request)
    for encoding, squeeze, unpack in (
        ("gzip", gzip.compress, gzip.decompress),
        ("deflate", zlib.compress, zlib.decompress),
    ):
        sent = headers | {"Content-Encoding": encoding, "Accept-Encoding": encoding}
        async with client.stream("POST", SPECIES, content=squeeze(body), headers=sent) as response:
            packed = b"".join([part async for part in response.aiter_raw()])
        assert response.headers["content-encoding"] == encoding
        assert response.headers["vary"] == "Accept-Encoding"
        unpacked = unpack(packed)
        # The length is that of the JSON before it was compressed.
        length = int(response.headers["inference-header-content-length"])
        assert json.loads(unpacked[:length])["outputs"][0]["name"] == "samples"
        assert unpacked[length:] == plain["samples"].tobytes()
    for accepted in ("identity", "br", "gzip;q=0", "*;q=0", "gzip;q=x"):
        response = await client.post(
            SPECIES, content=body, headers=headers | {"Accept-Encoding": accepted}
        )
        assert "content-encoding" not in response.headers
        np.testing.assert_array_equal(read(response)["samples"], plain["samples"])


async def test_the_other_routes_read_compressed_bodies_too(client: httpx.AsyncClient) -> None:
    body = json.dumps({"instances": [STRENGTH_ROW]}).encode()
    path = "/v1/models/strength:predict"
    plain = await client.post(path, content=body)
    packed = await client.post(
        path, content=gzip.compress(body), headers={"Content-Encoding": "gzip"}
    )
    assert packed.json() == plain.json()


async def test_what_mlservers_codec_makes_of_a_mixed_column(client: httpx.AsyncClient) -> None:
    """Every text is JSON itself where a column holds more than texts."""
    site = tensor("site", "BYTES", ['"north"', '"west"', '"moon"'], [3, 1])
    site["parameters"] = {"content_type": "pd_json"}
    request = {"parameters": {"content_type": "pd"}, "inputs": [*SITES["inputs"][:2], site]}
    answer = await ask(client, STRENGTH, request)
    np.testing.assert_array_equal(answer["output"], (await ask(client, STRENGTH, SITES))["output"])


async def test_parameters_of_others_are_let_through(client: httpx.AsyncClient) -> None:
    request = bird_table(
        parameters={
            "content_type": "np", "headers": None, "sequence_id": 3, "sequence_start": True,
            "priority": 1, "timeout": 1000, "traceparent": "x",
        },
        outputs=None,
        model_name="species",
    )  # fmt: skip
    request["inputs"][0]["parameters"] = {"content_type": "np", "headers": {"a": "b"}}
    assert set(await ask(client, SPECIES, request)) == {"output", "label"}


async def test_no_levels_no_quantiles(client: httpx.AsyncClient) -> None:
    request = SITES | {"parameters": {"mode": "mc_dropout", "n_samples": 5, "quantiles": ""}}
    for one in (ask, ask_packed):
        answer = await one(client, STRENGTH, request)
        assert answer["quantiles"].shape == (3, 0, 1)


async def test_a_model_without_dropout_has_eval_mode(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "/v2/models/plain/infer", SITES)
    expected = await predict(client, "plain", SITE_ROWS)
    values = np.float32([row["value"] for row in expected])
    np.testing.assert_array_equal(answer["output"][:, 0], values)


def test_the_rows_are_those_of_the_other_tests() -> None:
    assert set(STRENGTH_ROW) == set(SITE_ROWS[0])
    assert len(SPECIES_ROW) == BIRDS.shape[1]

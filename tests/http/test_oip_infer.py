"""Open Inference Protocol: the numbers of :predict and :uncertainty, in tensors of every kind."""

import gzip
import itertools
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from service.schemas import InferResponse
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


STRENGTH = "/v2/models/strength/infer"
SPECIES = "/v2/models/species/infer"
BIRDS = np.array([[47.0, 4100.0], [60.0, 5000.0], [38.5, 3300.0]], dtype=np.float32)
NUMPY = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1",
    "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def tensor(name: str, datatype: str, data: list, shape: list[int] | None = None) -> dict:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def bird_table(**more: Any) -> dict:
    return {"inputs": [tensor("input", "FP32", BIRDS.ravel().tolist(), [3, 2])]} | more


SITES = {
    "inputs": [
        tensor("age", "FP64", [28.0, 50.5, 3.0]),
        tensor("water", "FP64", [180.1, None, 200.0], [3, 1]),
        tensor("site", "BYTES", ["north", "west", "moon"]),
    ]
}
SITE_ROWS = [
    {"age": 28.0, "water": 180.1, "site": "north"},
    {"age": 50.5, "water": None, "site": "west"},
    {"age": 3.0, "water": 200.0, "site": "moon"},
]


def pack_texts(texts: list[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def pack(request: dict) -> tuple[bytes, dict[str, str]]:
    """The same request with all its inputs as bytes behind the JSON, and its header."""
    inputs, parts = [], []
    for given in request["inputs"]:
        flat = given["data"]
        if given["datatype"] == "BYTES":
            part = pack_texts(["" if text is None else text for text in flat])
        else:
            numbers = [np.nan if value is None else value for value in flat]
            part = np.array(numbers, NUMPY[given["datatype"]]).tobytes()
        parameters = {"binary_data_size": len(part)}
        inputs.append({k: v for k, v in given.items() if k != "data"} | {"parameters": parameters})
        parts.append(part)
    head = json.dumps(request | {"inputs": inputs}).encode()
    return b"".join([head, *parts]), {"Inference-Header-Content-Length": str(len(head))}


def read(response: httpx.Response) -> dict[str, np.ndarray | list[str]]:
    """The outputs of an answer by name, from JSON or from bytes."""
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    assert (response.headers["content-type"] == "application/json") == (length is None)
    head = response.content if length is None else response.content[: int(length)]
    rest = b"" if length is None else response.content[int(length) :]
    body = json.loads(head)
    InferResponse.model_validate(body)
    found: dict[str, Any] = {}
    for output in body["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            data = output["data"]
        else:
            part, rest = rest[:size], rest[size:]
            data = np.frombuffer(part, "<f4")
            if output["datatype"] == "BYTES":
                data = []
                while part:
                    (n,) = struct.unpack("<I", part[:4])
                    data.append(part[4 : 4 + n].decode())
                    part = part[4 + n :]
        if output["datatype"] != "BYTES":
            assert output["datatype"] == "FP32"
            data = np.array(data, np.float32).reshape(output["shape"])
        found[output["name"]] = data
    assert rest == b""
    return found


async def ask(client: httpx.AsyncClient, path: str, request: dict) -> dict:
    return read(await client.post(path, json=request))


async def ask_packed(client: httpx.AsyncClient, path: str, request: dict) -> dict:
    body, headers = pack(request)
    return read(await client.post(path, content=body, headers=headers))


async def predict(client: httpx.AsyncClient, model: str, rows: list) -> list[dict]:
    answer = await client.post(f"/v1/models/{model}:predict", json={"instances": rows})
    return answer.json()["predictions"]


async def uncertainty(client: httpx.AsyncClient, model: str, rows: list, **more: Any) -> dict:
    body = {"instances": rows} | more
    return (await client.post(f"/v1/models/{model}:uncertainty", json=body)).json()


def by_label(predictions: list[dict], *path: str) -> np.ndarray:
    found: list = predictions
    for name in path:
        found = [one[name] for one in found]
    return np.array([list(one.values()) for one in found], np.float32)


async def test_eval_mode_of_numbers_is_predict(client: httpx.AsyncClient) -> None:
    expected = await predict(client, "strength", SITE_ROWS)
    values = np.array([[one["value"]] for one in expected], np.float32)
    for answer in (await ask(client, STRENGTH, SITES), await ask_packed(client, STRENGTH, SITES)):
        assert set(answer) == {"output"}
        np.testing.assert_array_equal(answer["output"], values)


async def test_eval_mode_of_classes_is_predict(client: httpx.AsyncClient) -> None:
    expected = await predict(client, "species", BIRDS.tolist())
    nested = {"inputs": [tensor("input", "FP32", BIRDS.tolist(), [3, 2])]}
    apart = {
        "inputs": [
            tensor("mass", "FP32", BIRDS[:, 1].tolist()),
            tensor("bill", "FP32", [[value] for value in BIRDS[:, 0].tolist()], [3, 1]),
        ]
    }
    answers = [await ask(client, SPECIES, one) for one in (bird_table(), nested, apart)]
    answers.append(await ask_packed(client, SPECIES, bird_table()))
    for answer in answers:
        assert set(answer) == {"output", "label"}
        np.testing.assert_array_equal(answer["output"], by_label(expected, "probabilities"))
        assert answer["label"] == [one["label"] for one in expected]


async def test_mc_mode_of_numbers_is_uncertainty(client: httpx.AsyncClient) -> None:
    for estimator in ("auto", "mc", "stratified", "control_variate", "analytic"):
        await compare_with_uncertainty(client, estimator)


async def compare_with_uncertainty(client: httpx.AsyncClient, estimator: str) -> None:
    levels = [0.1, 0.5, 0.75, 0.9]
    expected = await uncertainty(
        client, "strength", SITE_ROWS, n_samples=40, seed=7, estimator=estimator, quantiles=levels
    )
    parameters = {
        "mode": "mc_dropout", "n_samples": 40, "seed": 7, "estimator": estimator,
        "quantiles": "0.1, 0.5,0.75, 0.9",
    }  # fmt: skip
    for one in (ask, ask_packed):
        answer = await one(client, STRENGTH, SITES | {"parameters": parameters})
        assert list(answer) == ["mean", "std", "quantiles"]
        for name in ("mean", "std"):
            values = np.array([[row[name]] for row in expected["predictions"]], np.float32)
            np.testing.assert_array_equal(answer[name], values)
        quantiles = [list(row["quantiles"].values()) for row in expected["predictions"]]
        np.testing.assert_array_equal(answer["quantiles"][:, :, 0], np.float32(quantiles))
    raw = (await client.post(STRENGTH, json=SITES | {"parameters": parameters})).json()
    keys = ("mode", "estimator", "n_samples", "samples_used", "seed", "converged")
    assert raw["parameters"] == {key: expected[key] for key in keys}


async def test_mc_mode_of_classes_is_uncertainty(client: httpx.AsyncClient) -> None:
    expected = await uncertainty(client, "species", BIRDS.tolist(), return_samples=True, seed=3)
    names = ("std", "samples", "entropy", "mutual_information", "label", "mean", "output")
    request = bird_table(
        parameters={"mode": "mc_dropout", "seed": 3}, outputs=[{"name": name} for name in names]
    )
    answer = await ask(client, SPECIES, request)
    assert tuple(answer) == names
    rows = expected["predictions"]
    np.testing.assert_array_equal(answer["mean"], by_label(rows, "probabilities"))
    np.testing.assert_array_equal(answer["std"], by_label(rows, "std"))
    deterministic = by_label(rows, "deterministic", "probabilities")
    np.testing.assert_array_equal(answer["output"], deterministic)
    assert answer["label"] == [row["label"] for row in rows]
    for name in ("entropy", "mutual_information"):
        np.testing.assert_array_equal(answer[name], np.float32([row[name] for row in rows]))
    samples = np.stack([by_label(row["samples"]) for row in rows], axis=1)
    assert samples.shape == (100, 3, 3)
    np.testing.assert_array_equal(answer["samples"], samples)
    usual = await ask(client, SPECIES, bird_table(parameters={"mode": "mc_dropout"}))
    assert list(usual) == ["mean", "std"]


async def test_samples_of_numbers(client: httpx.AsyncClient) -> None:
    expected = await uncertainty(
        client, "strength", SITE_ROWS, n_samples=11, seed=5, return_samples=True
    )
    parameters = {"mode": "mc_dropout", "n_samples": 11, "seed": 5}
    request = SITES | {"parameters": parameters, "outputs": [{"name": "samples"}]}
    answer = await ask_packed(client, STRENGTH, request)
    assert answer["samples"].shape == (11, 3, 1)
    samples = np.float32([row["samples"] for row in expected["predictions"]]).T
    np.testing.assert_array_equal(answer["samples"][:, :, 0], samples)


async def test_a_seed_of_null_is_a_fresh_one(client: httpx.AsyncClient) -> None:
    request = SITES | {"parameters": {"mode": "mc_dropout", "seed": None, "n_samples": 5}}
    bodies = [(await client.post(STRENGTH, json=request)).json() for _ in range(2)]
    first, second = [body["parameters"]["seed"] for body in bodies]
    assert first != second
    again = request | {"parameters": request["parameters"] | {"seed": first}}
    assert (await client.post(STRENGTH, json=again)).json()["outputs"] == bodies[0]["outputs"]


async def test_a_table_holds_categories_by_their_position(client: httpx.AsyncClient) -> None:
    metadata = (await client.get("/v2/models/strength")).json()
    [site] = [one for one in metadata["inputs"] if one["name"] == "site"]
    categories = site["parameters"]["categories"]
    rows = [[28.0, 180.0, "north"], [50.0, None, "west"], [3.0, 200.0, "south"]]
    table = [[age, water, categories.index(site)] for age, water, site in rows]
    request = {"inputs": [tensor("input", "FP64", table, [3, 3])]}
    expected = await predict(client, "strength", rows)
    answer = await ask(client, STRENGTH, request)
    values = np.float32([row["value"] for row in expected])
    np.testing.assert_array_equal(answer["output"][:, 0], values)
    cells = [cell for row in table for cell in row]
    flat = {"inputs": [tensor("input", "FP64", cells, [3, 3])]}
    packed = await ask_packed(client, STRENGTH, flat)
    np.testing.assert_array_equal(packed["output"], answer["output"])


async def test_what_is_missing(client: httpx.AsyncClient) -> None:
    """null in JSON, NaN among floats, or no tensor at all."""
    expected = await predict(client, "strength", [{"age": 9, "site": "west"}])
    known = [tensor("age", "FP32", [9.0]), tensor("site", "BYTES", ["west"])]
    water = [
        [],
        [tensor("water", "FP64", [None])],
        [tensor("water", "INT32", [None])],
        [tensor("water", "FP16", [float("nan")])],
    ]
    for one in water:
        answer = await client.post(STRENGTH, content=json.dumps({"inputs": known + one}).encode())
        assert read(answer)["output"][0, 0] == np.float32(expected[0]["value"])
    packed = await ask_packed(client, STRENGTH, {"inputs": known + water[1]})
    assert packed["output"][0, 0] == np.float32(expected[0]["value"])


async def test_numbers_of_every_datatype(client: httpx.AsyncClient) -> None:
    """Up to the limits of whole numbers, from JSON and from bytes."""
    for datatype, code in NUMPY.items():
        if datatype == "BOOL":
            continue
        low, high = (100, 120)
        if "INT" in datatype:
            # Beyond 10 ** 17 the mass is too far outside its range to compute with.
            low = max(int(np.iinfo(code).min), -(10**17))
            high = min(int(np.iinfo(code).max), 10**17)
        bill, mass = tensor("bill", datatype, [50, 60]), tensor("mass", datatype, [low, high])
        expected = await predict(client, "species", [[50, low], [60, high]])
        for one in (ask, ask_packed):
            answer = await one(client, SPECIES, {"inputs": [bill, mass]})
            np.testing.assert_array_equal(answer["output"], by_label(expected, "probabilities"))


async def test_columns_that_training_set_aside_may_come_along(client: httpx.AsyncClient) -> None:
    more = SITES["inputs"] + [tensor("row_id", "INT64", [1, 2, 3])]
    with_id = await ask_packed(client, STRENGTH, {"inputs": more})
    np.testing.assert_array_equal(with_id["output"], (await ask(client, STRENGTH, SITES))["output"])


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

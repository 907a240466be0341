"""Requests and answers of the Open Inference Protocol, in JSON and in bytes."""

import json
import struct
from typing import Any

import httpx
import numpy as np

from service.schemas import InferResponse

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

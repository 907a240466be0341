"""Open Inference Protocol: the numbers of :predict and :uncertainty, in tensors of every kind."""

import json

import httpx
import numpy as np
import pytest

from tests.http.oip import (
    BIRDS,
    NUMPY,
    SITE_ROWS,
    SITES,
    SPECIES,
    STRENGTH,
    ask,
    ask_packed,
    bird_table,
    by_label,
    predict,
    read,
    tensor,
    uncertainty,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


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

"""`:dropout`: every number of the picture follows from the layer before it."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest

from service.schemas import DropoutResponse
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW

pytestmark = pytest.mark.anyio


async def look(client: httpx.AsyncClient, model: str, row: object, **fields: object) -> dict:
    response = await client.post(f"/v1/models/{model}:dropout", json={"instance": row} | fields)
    assert response.status_code == 200, response.text
    DropoutResponse.model_validate(response.json())
    return response.json()


async def test_inverted_scaling_as_numbers(client: httpx.AsyncClient) -> None:
    body = await look(client, "strength", STRENGTH_ROW, seed=3, n_samples=20)
    assert [layer["name"] for layer in body["layers"]] == ["hidden 1", "hidden 2"]
    first, second = body["layers"]
    for layer, units in ((first, 32), (second, 24)):
        assert (layer["kind"], layer["p"]) == ("bernoulli", 0.1)
        assert layer["scale"] == pytest.approx(1 / 0.9)
        assert layer["units"] == len(layer["mask"]) == units
        assert set(layer["mask"]) <= {0.0, 1.0}
        np.testing.assert_allclose(
            layer["masked_activations"],
            np.array(layer["sample_activations"]) * layer["mask"] * layer["scale"],
            rtol=1e-5,
            atol=1e-7,
        )
        assert layer["fraction_dropped"] == pytest.approx(1 - np.mean(layer["mask"]))
    # Nothing has been dropped before the first layer.
    np.testing.assert_allclose(first["sample_activations"], first["eval_activations"], rtol=1e-6)
    assert second["sample_activations"] != second["eval_activations"]


async def test_outputs_are_the_samples_of_uncertainty(client: httpx.AsyncClient) -> None:
    body = await look(client, "strength", STRENGTH_ROW, seed=3, n_samples=20)
    asked = await client.post(
        "/v1/models/strength:uncertainty",
        json={"instances": [STRENGTH_ROW], "seed": 3, "n_samples": 20, "return_samples": True},
    )
    row = asked.json()["predictions"][0]
    assert body["outputs"] == row["samples"]
    assert body["eval_output"]["value"] == row["value"]
    np.testing.assert_allclose(
        body["running_mean"], np.cumsum(row["samples"]) / np.arange(1, 21), rtol=1e-9
    )
    assert body["running_mean"][-1] == pytest.approx(row["mean"])


async def test_the_fraction_dropped_nears_p(client: httpx.AsyncClient) -> None:
    body = await look(client, "strength", STRENGTH_ROW, n_samples=5000)
    assert body["fraction_dropped"] == pytest.approx(0.1, abs=0.003)


async def test_classes_are_shown_by_label(client: httpx.AsyncClient) -> None:
    body = await look(client, "species", SPECIES_ROW, n_samples=10)
    assert list(body["outputs"][0]) == ["Adelie", "Chinstrap", "Gentoo"]
    assert len(body["running_mean"]) == 10
    assert body["eval_output"]["label"] in body["outputs"][0]


async def test_gaussian_noise_is_its_own_mask(client: httpx.AsyncClient) -> None:
    body = await look(client, "gaussian", STRENGTH_ROW, n_samples=2000)
    assert [layer["name"] for layer in body["layers"]] == ["input", "hidden 1", "hidden 2"]
    for layer in body["layers"]:
        np.testing.assert_allclose(
            layer["masked_activations"],
            np.array(layer["sample_activations"]) * layer["mask"] * layer["scale"],
            rtol=1e-4,
            atol=1e-5,
        )
    assert body["fraction_dropped"] == 0.0


async def test_concrete_masks_lie_between_0_and_1(client: httpx.AsyncClient) -> None:
    body = await look(client, "concrete", STRENGTH_ROW, n_samples=2000)
    masks = np.concatenate([layer["mask"] for layer in body["layers"]])
    assert ((masks >= 0) & (masks <= 1)).all()
    assert 0 < body["fraction_dropped"] < 0.5


async def test_dropconnect_drops_weights(client: httpx.AsyncClient) -> None:
    body = await look(client, "dropconnect", STRENGTH_ROW, n_samples=50)
    shapes = [(np.array(layer["mask"]).shape, layer["name"]) for layer in body["layers"]]
    assert shapes == [((32, 6), "linear 1"), ((24, 32), "linear 2"), ((1, 24), "linear 3")]
    assert body["fraction_dropped"] == pytest.approx(0.2, abs=0.05)
    first = body["layers"][0]
    assert first["sample_activations"] == pytest.approx(first["eval_activations"], rel=1e-5)
    assert first["masked_activations"] != first["eval_activations"]


async def test_one_row_of_instances_does_as_well(client: httpx.AsyncClient) -> None:
    one = await client.post("/v1/models/strength:dropout", json={"instances": [STRENGTH_ROW]})
    assert one.json() == await look(client, "strength", STRENGTH_ROW)


@pytest.mark.parametrize(
    "path", ["strength/versions/1:dropout", "strength/labels/production:dropout"]
)
async def test_every_address(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(f"/v1/models/{path}", json={"instance": STRENGTH_ROW})
    assert response.status_code == 200


async def test_flags(client: httpx.AsyncClient) -> None:
    body = await look(client, "strength", STRENGTH_ROW | {"age": 999})
    assert body["flags"] == ["out_of_range:age"]


async def test_a_picture_too_large_to_send_is_refused(serve: Callable) -> None:
    """The masks of dropconnect have 192 + 768 + 48 values."""
    client = (await serve(max_returned_samples=1050)).client
    await look(client, "strength", STRENGTH_ROW, n_samples=900)
    await look(client, "dropconnect", STRENGTH_ROW, n_samples=10)
    path = "/v1/models/dropconnect:dropout"
    response = await client.post(path, json={"instance": STRENGTH_ROW, "n_samples": 50})
    assert response.status_code == 422
    assert "1008 mask values" in response.json()["detail"]

"""`:dropout`: every number of the picture follows from the layer before it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest

from models import load_artifact
from service.schemas import DropoutResponse
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


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
    await look(client, "dropconnect", STRENGTH_ROW, n_samples=50, max_units=12)


async def test_any_of_the_samples_can_be_looked_at(client: httpx.AsyncClient) -> None:
    """A later sample is what the last layer makes of what the picture says it is given."""
    bodies = [
        await look(client, "strength", STRENGTH_ROW, n_samples=10, sample=t, max_units=64)
        for t in (0, 7)
    ]
    assert bodies[0]["outputs"] == bodies[1]["outputs"]
    assert bodies[0]["layers"][0]["mask"] != bodies[1]["layers"][0]["mask"]
    weights = [np.array(body["network"]["links"][2][0]) for body in bodies]
    np.testing.assert_array_equal(*weights)
    last = [body["layers"][1] for body in bodies]
    sums = [weights[0] @ layer["masked_activations"] for layer in last]
    sums.append(weights[0] @ last[0]["eval_activations"])
    # Outputs are the sums but for a bias and the target's scale, the same for all.
    outputs = [bodies[0]["outputs"][0], bodies[0]["outputs"][7]]
    outputs.append(bodies[0]["eval_output"]["value"])
    slopes = np.diff(outputs) / np.diff(sums)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)
    body = {"instance": STRENGTH_ROW, "n_samples": 10, "sample": 10}
    response = await client.post("/v1/models/strength:dropout", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["sample"]


async def test_another_p_is_computed_by_the_service(client: httpx.AsyncClient) -> None:
    usual = await look(client, "strength", STRENGTH_ROW, n_samples=2000)
    strong = await look(client, "strength", STRENGTH_ROW, n_samples=2000, p=0.6)
    assert strong["fraction_dropped"] == pytest.approx(0.6, abs=0.01)
    assert [layer["scale"] for layer in strong["layers"]] == pytest.approx([2.5, 2.5])
    assert strong["eval_output"] == usual["eval_output"]
    assert strong["mc_output"]["std"] > 2 * usual["mc_output"]["std"]
    assert strong["layers"][0]["eval_activations"] == usual["layers"][0]["eval_activations"]
    for p in (0.0, 1.0, "half"):
        response = await client.post(
            "/v1/models/strength:dropout", json={"instance": STRENGTH_ROW, "p": p}
        )
        assert response.status_code == 422
        assert response.json()["errors"][0]["loc"] == ["p"]


async def test_another_p_gives_no_dropout_to_a_model_without(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/models/plain:dropout", json={"instance": STRENGTH_ROW, "p": 0.5}
    )
    assert (response.status_code, response.json()["title"]) == (422, "The model has no dropout")


async def test_the_moments_are_those_of_the_outputs(client: httpx.AsyncClient) -> None:
    body = await look(client, "strength", STRENGTH_ROW, n_samples=50)
    outputs, moments = np.array(body["outputs"]), body["mc_output"]
    assert moments["mean"] == pytest.approx(outputs.mean())
    assert moments["std"] == pytest.approx(outputs.std(ddof=1))
    assert moments["standard_error"] == pytest.approx(outputs.std(ddof=1) / 50**0.5)
    body = await look(client, "species", SPECIES_ROW, n_samples=50)
    shares = [output["Gentoo"] for output in body["outputs"]]
    assert body["mc_output"]["mean"]["Gentoo"] == pytest.approx(np.mean(shares))


async def test_the_network_is_drawn_small_and_says_so(client: httpx.AsyncClient) -> None:
    whole = await look(client, "strength", STRENGTH_ROW, max_units=64)
    small = await look(client, "strength", STRENGTH_ROW, max_units=5)
    layers = small["network"]["layers"]
    assert [(layer["name"], layer["units"]) for layer in layers] == [
        ("input", 6), ("hidden 1", 32), ("hidden 2", 24), ("output", 1),
    ]  # fmt: skip
    assert [len(layer["shown"]) for layer in layers] == [5, 5, 5, 1]
    assert layers[1]["shown"] == [0, 8, 16, 23, 31]
    assert layers[3]["labels"] == ["strength"]
    assert whole["network"]["layers"][0]["labels"] == [
        "age", "water", "water missing", "site = north", "site = south", "site = west",
    ]  # fmt: skip
    for i, (before, after) in enumerate(pairwise(layers)):
        links = np.array(whole["network"]["links"][i])[np.ix_(after["shown"], before["shown"])]
        np.testing.assert_array_equal(small["network"]["links"][i], links)
    for cut, full, layer in zip(small["layers"], whole["layers"], layers[1:], strict=False):
        assert (cut["shown"], cut["units"]) == (layer["shown"], layer["units"])
        for name in ("mask", "eval_activations", "sample_activations", "masked_activations"):
            assert cut[name] == [full[name][unit] for unit in layer["shown"]]
        assert cut["fraction_dropped"] == full["fraction_dropped"]
    assert small["outputs"] == whole["outputs"]


def folder_of(home: Path, pattern: str) -> Path:
    (folder,) = home.glob(f"models/{pattern}")
    return folder


async def test_links_are_the_weights_that_lead_from_layer_to_layer(
    client: httpx.AsyncClient, home: Path
) -> None:
    """The oracle is the artifact's own network, a PyTorch module."""
    body = await look(client, "strength", STRENGTH_ROW, max_units=64)
    network = load_artifact(folder_of(home, "strength/2-*")).network
    for links, linear in zip(body["network"]["links"], network.linears, strict=True):
        np.testing.assert_allclose(links, linear.weight.detach()[: len(links)], rtol=1e-6)


async def test_weights_that_are_dropped_are_drawn_between_their_units(
    client: httpx.AsyncClient,
) -> None:
    whole = await look(client, "dropconnect", STRENGTH_ROW)
    small = await look(client, "dropconnect", STRENGTH_ROW, max_units=4)
    shown = [layer["shown"] for layer in small["network"]["layers"]]
    for i, (cut, full) in enumerate(zip(small["layers"], whole["layers"], strict=True)):
        assert cut["shown"] == shown[i + 1]
        mask = np.array(full["mask"])[np.ix_(shown[i + 1], shown[i])]
        np.testing.assert_array_equal(cut["mask"], mask)

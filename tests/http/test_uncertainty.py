"""`:uncertainty`: MC mode. The oracle is the textbook's passes in train mode."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from scipy import stats

from models.masks import MaskStream, StratifiedStream
from models.sampling import make_plan
from service.schemas import UncertaintyResponse
from tests.faults import Take, plant
from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW
from tests.http.test_predict import artifact_of
from tests.statistical.moments import Z_BOUND
from tests.statistical.textbook import passes

pytestmark = pytest.mark.anyio

KINDS = ("strength", "gaussian", "concrete", "dropconnect")
ROWS = [STRENGTH_ROW, STRENGTH_ROW | {"age": 80, "water": None, "site": "west"}]


@pytest.fixture
def client(reader: httpx.AsyncClient) -> httpx.AsyncClient:
    """Nothing here changes the application."""
    return reader


async def ask(client: httpx.AsyncClient, model: str, rows: list, **fields: object) -> dict:
    body = {"instances": rows} | fields
    response = await client.post(f"/v1/models/{model}:uncertainty", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def numbers(value: object) -> list[float]:
    """All numbers of an answer, in order."""
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


async def test_regression_fields(client: httpx.AsyncClient) -> None:
    body = await ask(client, "strength", [STRENGTH_ROW])
    head = {key: value for key, value in body.items() if key != "predictions"}
    assert head == {
        "model": "strength",
        "version": 2,
        "mode": "mc_dropout",
        "estimator": "control_variate",
        "n_samples": 100,
        "samples_used": 34,
        "seed": 0,
        "converged": True,
    }
    (row,) = body["predictions"]
    assert set(row) == {
        "value", "mean", "std", "epistemic_std", "aleatoric_std", "standard_error",
        "quantiles", "interval", "decision",
    }  # fmt: skip
    assert list(row["quantiles"]) == ["0.05", "0.5", "0.95"]
    assert row["std"] == pytest.approx(math.hypot(row["epistemic_std"], row["aleatoric_std"]))
    assert 0.0 < row["standard_error"] < row["epistemic_std"] / 10
    low, middle, high = row["quantiles"].values()
    assert low < middle < high
    assert row["interval"]["coverage"] == 0.9
    assert row["interval"]["lower"] < row["mean"] < row["interval"]["upper"]
    assert row["decision"] in ("accept", "abstain")
    assert all(math.isfinite(n) for n in numbers(body))
    UncertaintyResponse.model_validate(body)


async def test_classification_fields(client: httpx.AsyncClient) -> None:
    body = await ask(client, "species", [SPECIES_ROW], return_samples=True)
    (row,) = body["predictions"]
    assert set(row) == {
        "label", "probabilities", "deterministic", "std", "standard_error", "entropy",
        "expected_entropy", "mutual_information", "variation_ratio", "prediction_set",
        "decision", "samples",
    }  # fmt: skip
    labels = ["Adelie", "Chinstrap", "Gentoo"]
    samples = np.array([[sample[label] for label in labels] for sample in row["samples"]])
    assert samples.shape == (100, 3)
    mean = np.array([row["probabilities"][label] for label in labels])
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(list(row["std"].values()), samples.std(axis=0, ddof=1), rtol=1e-9)
    assert row["entropy"] == pytest.approx(stats.entropy(mean))
    assert row["expected_entropy"] == pytest.approx(stats.entropy(samples, axis=1).mean())
    assert row["entropy"] == pytest.approx(row["expected_entropy"] + row["mutual_information"])
    votes = np.bincount(samples.argmax(axis=1), minlength=3)
    assert row["variation_ratio"] == pytest.approx(1 - votes.max() / 100)
    assert row["label"] == labels[mean.argmax()]
    assert row["label"] in row["prediction_set"]["labels"]
    predicted = await client.post("/v1/models/species:predict", json={"instances": [SPECIES_ROW]})
    assert row["deterministic"] == predicted.json()["predictions"][0]
    UncertaintyResponse.model_validate(body)


@pytest.fixture(scope="module")
async def textbook(
    reader: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """5,000 passes in train mode over `ROWS`, of each model."""
    found = {}
    for model in KINDS:
        folder = tmp_path_factory.mktemp(model)
        artifact = await artifact_of(reader, model, 2 if model == "strength" else 1, folder)
        torch.manual_seed(0)
        raw = passes(artifact.network, artifact.encode(ROWS), 5000)
        found[model] = artifact.decode(raw.flatten(0, 1)).view(5000, len(ROWS)).numpy()
    return found


@pytest.mark.parametrize("estimator", ["auto", "mc"])
@pytest.mark.parametrize("model", KINDS)
async def test_mean_and_std_agree_with_textbook_passes(
    client: httpx.AsyncClient, textbook: dict[str, np.ndarray], model: str, estimator: str
) -> None:
    """5,000 samples of each; z of the means, and of the variances with their estimated spread:
    that of textbook samples, above which no estimator may be."""
    body = await ask(client, model, ROWS, n_samples=5000, seed=1, estimator=estimator)
    assert estimator in (body["estimator"], "auto")
    for row, loop in zip(body["predictions"], textbook[model].T, strict=True):
        joint = math.sqrt((loop.var() + row["epistemic_std"] ** 2) / 5000)
        assert abs(row["mean"] - loop.mean()) < Z_BOUND * joint
        squared = (loop - loop.mean()) ** 2
        spread = math.sqrt(2 * squared.var() / 5000)
        assert abs(row["epistemic_std"] ** 2 - squared.mean()) < Z_BOUND * spread


@pytest.mark.parametrize("estimator", ["mc", "stratified"])
@pytest.mark.parametrize("fault", ["off", "unscaled", "swapped"])
async def test_that_comparison_notices_planted_faults(
    serve: Callable,
    textbook: dict[str, np.ndarray],
    fault: str,
    estimator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = {
        "off": torch.ones_like,
        "unscaled": lambda m: (m != 0).float(),
        "swapped": lambda m: (m == 0).float() / 0.1,
    }[fault]

    def faulty(take: Take) -> Take:
        return lambda self, n: [None if m is None else change(m) for m in take(self, n)]

    plant(monkeypatch, MaskStream if estimator == "mc" else StratifiedStream, faulty)
    client = (await serve()).client  # which has drawn no masks before
    with pytest.raises(AssertionError):
        await test_mean_and_std_agree_with_textbook_passes(client, textbook, "strength", estimator)


async def test_the_analytic_answer_draws_nothing(client: httpx.AsyncClient) -> None:
    for model, row in (("strength", STRENGTH_ROW), ("species", SPECIES_ROW)):
        body = await ask(client, model, [row], estimator="analytic")
        assert (body["estimator"], body["samples_used"]) == ("analytic", 0)
        again = await ask(client, model, [row], estimator="analytic", seed=9, n_samples=2)
        assert again["predictions"] == body["predictions"]
        sampled = await ask(client, model, [row], estimator="mc", n_samples=3000)
        UncertaintyResponse.model_validate(body)
        for name in ("mean", "epistemic_std", "entropy"):
            if name in body["predictions"][0]:
                expected = sampled["predictions"][0][name]
                assert body["predictions"][0][name] == pytest.approx(expected, rel=0.1)
    response = await client.post(
        "/v1/models/strength:uncertainty",
        json={"instances": [STRENGTH_ROW], "estimator": "analytic", "return_samples": True},
    )
    assert response.status_code == 422
    assert "draws no samples" in response.json()["detail"]


async def test_samples_that_are_asked_for_are_textbook_ones(client: httpx.AsyncClient) -> None:
    body = await ask(client, "strength", [STRENGTH_ROW], return_samples=True)
    plain = await ask(client, "strength", [STRENGTH_ROW], return_samples=True, estimator="mc")
    assert body == plain
    stratified = await ask(
        client, "strength", [STRENGTH_ROW], return_samples=True, estimator="stratified"
    )
    assert len(stratified["predictions"][0]["samples"]) == 100


@pytest.mark.parametrize("model", [*KINDS, "species"])
async def test_a_row_alone_and_in_a_batch_of_256(client: httpx.AsyncClient, model: str) -> None:
    if model == "species":
        rows: list = [SPECIES_ROW | {"bill": 30 + i / 8} for i in range(256)]
    else:
        rows = [STRENGTH_ROW | {"age": 1 + i / 3} for i in range(256)]
    together = await ask(client, model, rows, seed=42)
    for i in (0, 99, 255):
        alone = await ask(client, model, [rows[i]], seed=42)
        np.testing.assert_allclose(
            numbers(alone["predictions"][0]), numbers(together["predictions"][i]), rtol=1e-5
        )


async def test_a_rows_set_depends_on_the_row_and_the_seed_alone(client: httpx.AsyncClient) -> None:
    """At the edge of a set a number decides that looks random, and is not."""
    rows: list = [SPECIES_ROW | {"bill": 44 + i / 32} for i in range(256)]

    async def sets(rows: list, seed: int) -> list:
        answer = await ask(client, "species", rows, seed=seed, coverage=0.8)
        return [row["prediction_set"]["labels"] for row in answer["predictions"]]

    together = await sets(rows, 42)
    assert [(await sets([rows[i]], 42))[0] for i in range(0, 256, 8)] == together[::8]
    assert await sets(rows[::-1], 42) == together[::-1]
    assert {len(labels) for labels in together} >= {1, 2}
    assert await sets(rows, 43) != together


@pytest.mark.parametrize("model", ["strength", "species"])
async def test_the_same_bytes_before_and_after_a_restart(serve: Callable, model: str) -> None:
    row = SPECIES_ROW if model == "species" else STRENGTH_ROW
    request = {"instances": [row] * 3, "seed": 7, "n_samples": 64, "return_samples": True}
    answers = []
    for _ in range(2):
        app = await serve()
        for _ in range(2):
            response = await app.client.post(f"/v1/models/{model}:uncertainty", json=request)
            answers.append(response.content)
    assert len(set(answers)) == 1


async def test_the_same_bytes_while_others_ask_with_other_seeds_and_samples(
    client: httpx.AsyncClient,
) -> None:
    async def bytes_of(n_rows: int, **fields: object) -> bytes:
        body = {"instances": [STRENGTH_ROW] * n_rows} | fields
        return (await client.post("/v1/models/strength:uncertainty", json=body)).content

    mine = {"n_rows": 300, "seed": 11, "n_samples": 200}
    first = await bytes_of(**mine)
    others = [bytes_of(300, seed=s, n_samples=50 + 30 * s) for s in range(8)]
    results = await asyncio.gather(*[bytes_of(**mine) for _ in range(4)], *others)
    assert set(results[:4]) == {first}
    assert len(set(results)) == 9


async def test_seed_null_draws_a_fresh_seed_that_can_be_used_again(
    client: httpx.AsyncClient,
) -> None:
    first = await ask(client, "strength", [STRENGTH_ROW], seed=None)
    second = await ask(client, "strength", [STRENGTH_ROW], seed=None)
    assert first["seed"] != second["seed"]
    assert 0 <= first["seed"] < 2**53
    again = await ask(client, "strength", [STRENGTH_ROW], seed=first["seed"])
    assert again == first


async def test_the_seed_names_the_masks_of_the_library(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Sample t over HTTP is the network thinned by mask t, computed here from scratch."""
    body = await ask(client, "strength", [STRENGTH_ROW], seed=5, n_samples=8, return_samples=True)
    artifact = await artifact_of(client, "strength", 2, tmp_path)
    masks = MaskStream(make_plan(artifact.network).sites, 5).take(8)
    first, second, last = artifact.network.linears
    with torch.no_grad():
        h = torch.relu(first(artifact.encode([STRENGTH_ROW]))) * masks[1]
        h = torch.relu(second(h)) * masks[2]
        expected = artifact.decode(last(h)[:, :1])[:, 0]
    np.testing.assert_allclose(body["predictions"][0]["samples"], expected.numpy(), rtol=1e-5)


async def test_quantiles_are_of_the_predictive_distribution(client: httpx.AsyncClient) -> None:
    """Normal noise around the samples: the mixture's own distribution function says so."""
    levels = [0.001, 0.1, 0.9]
    body = await ask(
        client, "strength", [STRENGTH_ROW], quantiles=levels, return_samples=True, n_samples=500
    )
    (row,) = body["predictions"]
    # The noise variance hardly differs between samples here.
    mixture = stats.norm(np.array(row["samples"]), row["aleatoric_std"])
    for level in levels:
        assert mixture.cdf(row["quantiles"][str(level)]).mean() == pytest.approx(level, rel=0.05)


async def test_coverage_widens_the_interval(client: httpx.AsyncClient) -> None:
    widths = []
    for coverage in (0.5, 0.8, 0.95):
        body = await ask(client, "strength", [STRENGTH_ROW], coverage=coverage)
        interval = body["predictions"][0]["interval"]
        assert interval["coverage"] == coverage
        widths.append(interval["upper"] - interval["lower"])
    assert widths == sorted(widths)


async def test_tolerance_and_deadline_stop_early(client: httpx.AsyncClient) -> None:
    rows = [STRENGTH_ROW, STRENGTH_ROW | {"age": 85}]
    full = await ask(client, "strength", rows, n_samples=10_000)
    worst = max(row["standard_error"] for row in full["predictions"])
    body = await ask(client, "strength", rows, n_samples=10_000, tolerance=5 * worst)
    assert body["converged"]
    assert body["samples_used"] < body["n_samples"] == 10_000
    assert all(row["standard_error"] <= 5 * worst for row in body["predictions"])
    late = await ask(client, "strength", rows, n_samples=10_000, deadline_ms=0.001)
    assert late["samples_used"] == 2
    assert not late["converged"]


async def test_uncertain_rows_are_abstained_from(client: httpx.AsyncClient) -> None:
    rows = [STRENGTH_ROW, STRENGTH_ROW | {"age": 5000, "water": 9000}]
    usual, strange = (await ask(client, "strength", rows))["predictions"]
    assert usual["decision"] == "accept"
    assert strange["decision"] == "abstain"
    assert strange["flags"] == ["out_of_range:age", "out_of_range:water"]
    assert strange["epistemic_std"] > 10 * usual["epistemic_std"]


async def test_a_model_without_dropout_says_so(client: httpx.AsyncClient) -> None:
    for verb in ("uncertainty", "dropout"):
        response = await client.post(f"/v1/models/plain:{verb}", json={"instances": [STRENGTH_ROW]})
        assert response.status_code == 422
        assert "no active dropout" in response.json()["detail"]
    predicted = await client.post("/v1/models/plain:predict", json={"instances": [STRENGTH_ROW]})
    assert predicted.status_code == 200


async def test_more_work_than_a_minute_is_refused(client: httpx.AsyncClient) -> None:
    """Quantiles of many samples cost more than the network does."""
    rows = [[28.0, 180.0, "north"]] * 10_000
    body = await ask(client, "strength", rows)
    assert len(body["predictions"]) == 10_000
    levels = [(i + 1) / 102 for i in range(100)]
    path = "/v1/models/strength:uncertainty"
    response = await client.post(
        path, json={"instances": rows, "quantiles": levels, "estimator": "mc"}
    )
    assert response.status_code == 422
    assert "fewer rows, samples or quantiles help" in response.json()["detail"]
    await ask(client, "strength", rows[:256], quantiles=levels)
    # Of classes there are none.
    await ask(client, "species", [SPECIES_ROW] * 10_000, quantiles=levels, n_samples=2)

"""`:feedback`, and the live figures that come of it."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import scoringrules

from tests.http.conftest import SPECIES_ROW, STRENGTH_ROW, AsyncApp
from tests.http.test_bad_requests import assert_problem
from tests.http.test_metrics import ask, scrape, value

pytestmark = pytest.mark.anyio

MC = {"model": "strength", "version": "2", "mode": "mc_dropout"}
N = 1000


def new_rows(seed: int) -> tuple[list[dict], np.ndarray]:
    """Rows like those of `strength_table`, and their truth."""
    rng = np.random.default_rng(seed)
    age, water = rng.uniform(1, 90, N), rng.uniform(120, 250, N)
    site = np.array(["north", "south", "west"])[rng.integers(0, 3, N)]
    truth = 20 + 0.4 * age - 0.1 * water + rng.normal(0, 2, N) + (site == "west") * 5
    rows = [
        {"age": a, "water": w, "site": s} for a, w, s in zip(age, water, site.tolist(), strict=True)
    ]
    return rows, truth


def told(request_id: str, truth: np.ndarray) -> list[dict]:
    return [{"request_id": request_id, "row": i, "value": float(y)} for i, y in enumerate(truth)]


async def test_coverage_is_near_nominal_and_falls_when_the_world_shifts(
    client: httpx.AsyncClient,
) -> None:
    rows, truth = new_rows(7)
    answer = await ask(client, "strength:uncertainty", instances=rows, coverage=0.9)
    request_id = answer.headers["x-request-id"]
    sent = await ask(client, "strength:feedback", feedback=told(request_id, truth))
    assert sent.json() == {
        "model": "strength", "counted": N, "duplicates": 0, "unknown": 0,
        "results": ["counted"] * N,
    }  # fmt: skip
    seen = await scrape(client)

    said = answer.json()["predictions"]
    lower, upper = np.array([[r["interval"]["lower"], r["interval"]["upper"]] for r in said]).T
    mean, std = np.array([[r["mean"], r["std"]] for r in said]).T
    covered = float(((lower <= truth) & (truth <= upper)).mean())
    live = value(seen, "dropcast_live_coverage_ratio", **MC, coverage="0.9")
    assert live == pytest.approx(covered)
    # Given its 300 calibration rows, coverage is Beta(270.9, 30.1), and a thousand rows show it:
    # 0.9 ∓ 4.27 stds of both together.
    spread = np.sqrt(0.09 / 302 + 0.09 / N)
    assert abs(live - 0.9) < 4.27 * spread
    assert value(seen, "dropcast_live_nominal_coverage_ratio", **MC) == pytest.approx(0.9)
    assert value(seen, "dropcast_live_coverage_rows", **MC, coverage="0.9") == N
    assert value(seen, "dropcast_live_rows", **MC) == N
    error = mean - truth
    assert value(seen, "dropcast_live_rmse", **MC) == pytest.approx(np.sqrt((error**2).mean()))
    assert value(seen, "dropcast_live_mae", **MC) == pytest.approx(np.abs(error).mean())
    crps = scoringrules.crps_normal(truth, mean, std).mean()
    assert value(seen, "dropcast_live_crps", **MC) == pytest.approx(crps)
    calibrated = value(seen, "dropcast_live_calibration_error_ratio", **MC)
    assert 0 < calibrated < 0.1
    assert value(seen, "dropcast_feedback_entries_total", outcome="counted") == N

    # The last thousand rows are what counts: those of a world that has moved.
    again = await ask(client, "strength:uncertainty", instances=rows, coverage=0.9, seed=1)
    shifted = told(again.headers["x-request-id"], truth + 2.5 * std.mean())
    await ask(client, "strength:feedback", feedback=shifted)
    seen = await scrape(client)
    assert value(seen, "dropcast_live_coverage_ratio", **MC, coverage="0.9") < 0.7
    assert value(seen, "dropcast_live_calibration_error_ratio", **MC) > 2 * calibrated
    assert value(seen, "dropcast_live_coverage_rows", **MC, coverage="0.9") == N


async def test_labels_and_eval_mode(client: httpx.AsyncClient) -> None:
    rng = np.random.default_rng(3)
    bill, mass = rng.normal(45, 5, 60), rng.normal(4200, 700, 60)
    rows = [{"bill": b, "mass": m} for b, m in zip(bill, mass, strict=True)]
    labels = ["Adelie", "Chinstrap", "Gentoo"]
    truth = [labels[i] for i in rng.integers(0, 3, 60)]
    for verb, mode in (("uncertainty", "mc_dropout"), ("predict", "eval")):
        answer = await ask(client, f"species:{verb}", instances=rows)
        request_id = answer.headers["x-request-id"]
        entries = [
            {"request_id": request_id, "row": i, "label": label} for i, label in enumerate(truth)
        ]
        assert (await ask(client, "species:feedback", feedback=entries)).status_code == 200
        seen = await scrape(client)
        of = {"model": "species", "version": "1", "mode": mode}
        said = answer.json()["predictions"]
        right = np.array([r["label"] == label for r, label in zip(said, truth, strict=True)])
        assert value(seen, "dropcast_live_accuracy_ratio", **of) == pytest.approx(right.mean())
        chosen = [r["probabilities"][label] for r, label in zip(said, truth, strict=True)]
        nll = -np.log(np.maximum(chosen, 1e-15)).mean()
        assert value(seen, "dropcast_live_nll_nats", **of) == pytest.approx(nll)
        squares = [
            (r["probabilities"][k] - (k == label)) ** 2
            for r, label in zip(said, truth, strict=True) for k in labels
        ]  # fmt: skip
        assert value(seen, "dropcast_live_brier_score", **of) == pytest.approx(sum(squares) / 60)
        if mode == "mc_dropout":
            inside = [
                label in r["prediction_set"]["labels"] for r, label in zip(said, truth, strict=True)
            ]
            live = value(seen, "dropcast_live_coverage_ratio", **of)
            assert live == pytest.approx(np.mean(inside))
        else:
            assert value(seen, "dropcast_live_coverage_rows", **of) == 0


async def test_a_row_counts_once_and_ids_may_be_the_clients_own(client: httpx.AsyncClient) -> None:
    named = {"instances": [STRENGTH_ROW] * 2, "row_ids": ["order-1", "order-2"]}
    headers = {"X-Request-Id": "mine"}
    await client.post("/v1/models/strength:predict", json=named, headers=headers)
    entries = [
        {"row_id": "order-2", "value": 1.0},
        {"request_id": "mine", "row": 1, "value": 2.0},
        {"row_id": "order-3", "value": 3.0},
        {"request_id": "mine", "value": 4},
    ]
    first = (await ask(client, "strength:feedback", feedback=entries)).json()
    assert first["results"] == ["counted", "duplicate", "unknown", "counted"]
    second = (await ask(client, "strength:feedback", feedback=entries)).json()
    assert second["results"] == ["duplicate", "duplicate", "unknown", "duplicate"]
    assert (second["counted"], second["duplicates"], second["unknown"]) == (0, 3, 1)
    seen = await scrape(client)
    assert value(seen, "dropcast_live_rows", model="strength", mode="eval") == 2
    assert value(seen, "dropcast_feedback_entries_total", outcome="duplicate") == 4


async def test_bad_feedback_says_where_and_counts_nothing(client: httpx.AsyncClient) -> None:
    for model, row in (("strength", STRENGTH_ROW), ("species", SPECIES_ROW)):
        await client.post(
            f"/v1/models/{model}:predict", json={"instances": [row]}, headers={"X-Request-Id": "r"}
        )
    good = {"request_id": "r", "value": 1.0}
    cases = [
        ("strength", {"request_id": "r", "label": "x"}, ["feedback", 1, "value"]),
        ("strength", {"request_id": "r", "row": 1, "value": 1.0}, ["feedback", 1, "row"]),
        ("strength", {"request_id": "r", "value": "1"}, ["feedback", 1, "value"]),
        ("strength", {"request_id": "r", "value": None}, ["feedback", 1]),
        ("strength", {"request_id": "r", "value": 1e101}, ["feedback", 1, "value"]),
        ("strength", {"request_id": "r", "row": -1, "value": 1.0}, ["feedback", 1, "row"]),
        ("strength", {"row_id": "a", "request_id": "r", "value": 1.0}, ["feedback", 1]),
        ("strength", {"request_id": "r", "value": 1.0, "truth": 2.0}, ["feedback", 1, "truth"]),
    ]
    for model, bad, place in cases:
        problem = assert_problem(await ask(client, f"{model}:feedback", feedback=[good, bad]), 422)
        assert [error["loc"] for error in problem["errors"]] == [place]
    infinite = b'{"feedback": [{"request_id": "r", "value": Infinity}]}'
    assert_problem(await client.post("/v1/models/strength:feedback", content=infinite), 422)
    wrong = {"request_id": "r", "label": "Adelia"}
    problem = assert_problem(await ask(client, "species:feedback", feedback=[wrong]), 422)
    assert problem["errors"][0]["loc"] == ["feedback", 0, "label"]
    assert "near it: Adelie" in problem["errors"][0]["msg"]
    assert_problem(await ask(client, "nothing:feedback", feedback=[good]), 404)
    strange = [{"request_id": "other", "value": 1.0}]
    problem = assert_problem(await ask(client, "strength:feedback", feedback=strange), 404)
    assert problem["errors"][0]["loc"] == ["feedback", 0, "request_id"]
    assert value(await scrape(client), "dropcast_live_rows") == 0


async def test_answers_are_found_by_another_process_and_after_a_restart(
    serve: Callable[..., AsyncApp], home: Path
) -> None:
    one, other = await serve(), await serve()
    answer = await ask(one.client, "strength:predict", instances=[STRENGTH_ROW])
    entry = {"request_id": answer.headers["x-request-id"], "value": 30.0}
    await one.app.state.memory.flush()
    assert (await ask(other.client, "strength:feedback", feedback=[entry])).status_code == 200
    third = await serve()
    again = (await ask(third.client, "strength:feedback", feedback=[entry])).json()
    assert again["results"] == ["duplicate"]
    for app in (one, other, third):
        assert value(await scrape(app.client), "dropcast_live_rows") == 1


async def test_only_a_bounded_number_of_answers_is_remembered(
    serve: Callable[..., AsyncApp],
) -> None:
    app = await serve(feedback_bytes=2**16)
    ids = []
    for _ in range(3):
        # 200 bytes and 4,000 rows of 8 each.
        answer = await ask(app.client, "strength:predict", instances=[STRENGTH_ROW] * 4000)
        ids.append(answer.headers["x-request-id"])
    entries = [{"request_id": request_id, "value": 30.0} for request_id in ids]
    known = (await ask(app.client, "strength:feedback", feedback=entries)).json()
    assert known["results"] == ["unknown", "counted", "counted"]


async def test_it_can_be_off(serve: Callable[..., AsyncApp]) -> None:
    app = await serve(feedback_share=0.0)
    answer = await ask(app.client, "strength:predict", instances=[STRENGTH_ROW])
    entry = {"request_id": answer.headers["x-request-id"], "value": 30.0}
    problem = assert_problem(await ask(app.client, "strength:feedback", feedback=[entry]), 409)
    assert "DROPCAST_FEEDBACK_SHARE" in problem["detail"]


@pytest.mark.parametrize("row_ids", [["a"], ["a", "a"], ["a", ""], [1, 2]])
async def test_row_ids_name_each_row(client: httpx.AsyncClient, row_ids: list) -> None:
    for verb in ("predict", "uncertainty"):
        body = {"instances": [STRENGTH_ROW] * 2, "row_ids": row_ids}
        problem = assert_problem(await ask(client, f"strength:{verb}", **body), 422)
        assert problem["errors"][0]["loc"][0] == "row_ids"

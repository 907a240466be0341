"""The short way of hot requests and the routers' way give the same answers, errors included."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.routes import inference, open_inference
from tests.http.conftest import STRENGTH_ROW, AsyncApp

pytestmark = pytest.mark.anyio

ROWS = {"instances": [STRENGTH_ROW]}
TENSOR = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
ASKED = [
    ("/v1/models/strength:predict", ROWS),
    ("/v1/models/strength/versions/1:predict", ROWS),
    ("/v1/models/strength/labels/production:uncertainty", ROWS),
    ("/v1/models/strength:dropout", {"instance": STRENGTH_ROW, "n_samples": 5}),
    ("/v1/models/strength:predict", {"instances": [{"age": "old"}]}),
    ("/v1/models/strength/versions/9:uncertainty", ROWS),
    ("/v1/models/str%2Fength:predict", ROWS),
    ("/v1/models/strength:predct", ROWS),
    ("/v1/models/strength:uncertainty", ROWS | {"n_samples": 1}),
    ("/v2/models/plain/infer", TENSOR),
    ("/v2/models/none/versions/1/infer", TENSOR),
]


async def test_both_ways_give_the_same_answers(
    serve: Callable[..., AsyncApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = await serve()
    for room in (inference, open_inference):
        assert room.SHORTCUTS
        monkeypatch.setattr(room, "SHORTCUTS", {})
    long = await serve()
    headers = {"x-request-id": "the-same"}
    statuses = set()
    for path, body in ASKED:
        expected = await long.client.post(path, json=body, headers=headers)
        answer = await short.client.post(path, json=body, headers=headers)
        statuses.add(answer.status_code)
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
        assert answer.headers == expected.headers
    assert statuses == {200, 404, 422}
    counted = [
        {
            line
            for line in (await app.client.get("/metrics")).text.splitlines()
            if "_requests_total{" in line
        }
        for app in (short, long)
    ]
    assert counted[0] == counted[1]

    # The short way needs no router, and what is not quite of its form does.
    short.app.router.routes.clear()
    answers = [await short.client.post(path, json=ROWS) for path in (ASKED[0][0], ASKED[7][0])]
    assert [answer.status_code for answer in answers] == [200, 404]
    assert "there is nothing at" in answers[1].json()["detail"]

"""One request of the protocol, front to back: bytes in, bytes out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from models.errors import ArtifactError
from service.errors import NotReadyError
from service.inference import Address, Inference
from service.open_inference import answers
from service.open_inference.answers import Answer
from service.open_inference.requests import placed_in_parameters, read_request
from service.open_inference.rows import TensorRows


async def infer(
    inference: Inference,
    address: Address,
    body: bytes,
    header_lengths: Sequence[str],
    *,
    request_id: str,
    encoding: str | None,
) -> Answer:
    """The answer to a body that came with these values of `Inference-Header-Content-Length`,
    compressed if there is an encoding; `request_id` is the id of a request without one.

    Raises:
        MalformedError, NotJsonError: the body cannot be read.
        and as `Inference.predict` and `Inference.uncertainty` do.
    """
    started = time.monotonic()
    wanted = read_request(body, header_lengths)
    inference.name(wanted.parameters.mode, address)
    loaded = await inference.find(address)
    task = loaded.artifact.schema.target.task
    names = answers.check_outputs(wanted, task, is_stochastic=loaded.plan.is_stochastic)
    rows = TensorRows(wanted.inputs)
    form = answers.Form(wanted, names, request_id, encoding)
    with placed_in_parameters():
        if wanted.parameters.mode == "eval":
            return await inference.evaluate(loaded, rows, form.predicted)
        return await inference.draw(
            loaded, rows, wanted.parameters, form.uncertain, started=started
        )


async def check_ready(inference: Inference, address: Address) -> None:
    """Nothing, if that version can answer.

    Raises:
        NotFoundError: there is none.
        NotReadyError: it cannot be loaded.
    """
    try:
        await inference.find(address)
    except ArtifactError:
        message = f"{address.model} cannot be loaded: the service's log says why"
        raise NotReadyError(message, retry_after_seconds=30) from None

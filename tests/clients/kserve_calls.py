"""KServe's `InferenceRESTClient`, protocols v2 and v1."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from oracle import CATEGORIES, CONCRETE, MC, PENGUINS, Service, column, error_of, run, same


def ask(service: Service, call: Callable[[InferenceRESTClient], Awaitable[None]], protocol="v2"):
    async def all_of_it() -> None:
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            await call(client)

    asyncio.run(all_of_it())


def table(*, binary: bool) -> InferInput:
    given = InferInput("input", list(CONCRETE.shape), "FP32")
    given.set_data_from_numpy(CONCRETE, binary_data=binary)
    return given


def columns(*, binary: bool) -> list[InferInput]:
    inputs = []
    for name in PENGUINS[0]:
        values = column(name)
        given = InferInput(name, [len(values)], "BYTES" if name in CATEGORIES else "FP64")
        given.set_data_from_numpy(values, binary_data=binary)
        inputs.append(given)
    return inputs


def numpy_of(response, name: str) -> np.ndarray:
    [output] = [one for one in response.outputs if one.name == name]
    return output.as_numpy()


def health(service: Service) -> None:
    """is_server_live, is_server_ready, is_model_ready"""

    async def call(client: InferenceRESTClient) -> None:
        assert await client.is_server_live(service.url) is True
        assert await client.is_server_ready(service.url) is True
        assert await client.is_model_ready(service.url, "concrete") is True
        assert await client.is_model_ready(service.url, "nobody") is False

    ask(service, call)


def infer_eval(service: Service) -> None:
    """infer, eval mode: JSON and binary in, JSON and binary out"""

    async def call(client: InferenceRESTClient) -> None:
        for binary in (False, True):
            for wanted in (None, [RequestedOutput("output", {"binary_data": binary})]):
                request = InferRequest(
                    "concrete", [table(binary=binary)], request_id="7", request_outputs=wanted
                )
                response = await client.infer(service.url, request, model_name="concrete")
                assert (response.id, response.model_name) == ("7", "concrete")
                same(numpy_of(response, "output"), service.concrete())

    ask(service, call)


def infer_mc(service: Service) -> None:
    """infer, MC mode by parameters: JSON and binary, `binary_data_output`"""

    async def call(client: InferenceRESTClient) -> None:
        for binary in (False, True):
            request = InferRequest(
                "concrete", [table(binary=binary)], parameters=MC | {"binary_data_output": binary}
            )
            response = await client.infer(service.url, request, model_name="concrete")
            for name, expected in service.concrete_mc().items():
                same(numpy_of(response, name), expected)

    ask(service, call)


def infer_mixed(service: Service) -> None:
    """infer with one tensor for each feature (FP64, BYTES), missing values"""

    async def call(client: InferenceRESTClient) -> None:
        for binary in (False, True):
            request = InferRequest("penguins", columns(binary=binary))
            response = await client.infer(service.url, request, model_name="penguins")
            same(numpy_of(response, "output"), service.penguins()[0])

    ask(service, call)


def errors(service: Service) -> None:
    """HTTPStatusError with the text of the error"""

    async def call(client: InferenceRESTClient) -> None:
        request = InferRequest("penguins", [table(binary=True)])
        await client.infer(service.url, request, model_name="penguins")

    error = error_of(httpx.HTTPStatusError, lambda: ask(service, call))
    assert error.response.status_code == 422
    assert "6 features" in str(error)


def protocol_v1(service: Service) -> None:
    """infer with protocol v1 (`:predict`)"""

    async def call(client: InferenceRESTClient) -> None:
        data = {"instances": CONCRETE.tolist()}
        answer = await client.infer(service.url, data, model_name="concrete")
        values = np.float32([[row["value"]] for row in answer["predictions"]])
        same(values, service.concrete())

    ask(service, call, protocol="v1")


if __name__ == "__main__":
    run("kserve", [health, infer_eval, infer_mc, infer_mixed, errors, protocol_v1])

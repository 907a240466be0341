"""`tritonclient[http]`, its synchronous and its asyncio client."""

import asyncio

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from oracle import CATEGORIES, CONCRETE, MC, PENGUINS, Service, column, error_of, run, same
from tritonclient.utils import InferenceServerException


def client(service: Service, connections: int = 1) -> triton.InferenceServerClient:
    address = service.url.removeprefix("http://")
    return triton.InferenceServerClient(address, concurrency=connections)


def table(*, binary: bool) -> list[triton.InferInput]:
    given = triton.InferInput("input", list(CONCRETE.shape), "FP32")
    given.set_data_from_numpy(CONCRETE, binary_data=binary)
    return [given]


def columns(*, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for name in PENGUINS[0]:
        values = column(name)
        datatype = "BYTES" if name in CATEGORIES else "FP64"
        given = triton.InferInput(name, [len(values)], datatype)
        inputs.append(given.set_data_from_numpy(values, binary_data=binary))
    return inputs


def outputs(*names: str, binary: bool) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def health(service: Service) -> None:
    """is_server_live, is_server_ready, is_model_ready"""
    with client(service) as triton_client:
        assert triton_client.is_server_live()
        assert triton_client.is_server_ready()
        assert triton_client.is_model_ready("concrete")
        assert triton_client.is_model_ready("concrete", "1")
        assert not triton_client.is_model_ready("nobody")


def metadata(service: Service) -> None:
    """get_server_metadata, get_model_metadata, get_model_repository_index"""
    with client(service) as triton_client:
        assert "binary_tensor_data" in triton_client.get_server_metadata()["extensions"]
        said = triton_client.get_model_metadata("penguins", "1")
        assert {one["name"] for one in said["inputs"]} == {"input", *PENGUINS[0]}
        names = {entry["name"] for entry in triton_client.get_model_repository_index()}
        assert {"concrete", "penguins"} <= names


def infer_eval(service: Service) -> None:
    """infer, eval mode: JSON and binary in, JSON and binary out"""
    with client(service) as triton_client:
        for binary_in in (False, True):
            for wanted in (None, outputs("output", binary=False), outputs("output", binary=True)):
                result = triton_client.infer("concrete", table(binary=binary_in), outputs=wanted)
                same(result.as_numpy("output"), service.concrete())


def infer_mc(service: Service) -> None:
    """infer, MC mode by parameters: JSON and binary, all outputs"""
    with client(service) as triton_client:
        for binary in (False, True):
            result = triton_client.infer(
                "concrete", table(binary=binary), model_version="1", request_id="42",
                outputs=outputs("mean", "std", "quantiles", binary=binary), parameters=MC,
            )  # fmt: skip
            for name, expected in service.concrete_mc().items():
                same(result.as_numpy(name), expected)
            said = result.get_response()
            assert (said["id"], said["model_version"]) == ("42", "1")
            assert said["parameters"]["seed"] == 7


def infer_mixed(service: Service) -> None:
    """infer with one tensor for each feature (FP64, BYTES), missing values, BYTES out"""
    probabilities, labels = service.penguins()
    with client(service) as triton_client:
        for binary in (False, True):
            result = triton_client.infer("penguins", columns(binary=binary))
            same(result.as_numpy("output"), probabilities)
            assert [label.decode() for label in result.as_numpy("label")] == labels
            names = ("mean", "entropy", "mutual_information", "samples")
            result = triton_client.infer(
                "penguins", columns(binary=binary), outputs=outputs(*names, binary=binary),
                parameters={key: MC[key] for key in ("mode", "n_samples", "seed")},
            )  # fmt: skip
            for name, expected in service.penguins_mc().items():
                same(result.as_numpy(name), expected)


def infer_compressed(service: Service) -> None:
    """infer, request and response compressed (gzip, deflate)"""
    rows = np.tile(CONCRETE, (500, 1))
    given = triton.InferInput("input", list(rows.shape), "FP32").set_data_from_numpy(rows)
    with client(service) as triton_client:
        plain = triton_client.infer("concrete", [given]).as_numpy("output")
        for algorithm in ("gzip", "deflate"):
            result = triton_client.infer(
                "concrete", [given], request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )  # fmt: skip
            same(result.as_numpy("output"), plain)


def async_infer(service: Service) -> None:
    """async_infer"""
    expected = service.concrete()
    with client(service, connections=4) as triton_client:
        waiting = [triton_client.async_infer("concrete", table(binary=True)) for _ in range(8)]
        for result in [one.get_result() for one in waiting]:
            same(result.as_numpy("output"), expected)


def errors(service: Service) -> None:
    """InferenceServerException: status and message"""
    with client(service) as triton_client:
        for call, status, text in (
            (lambda: triton_client.infer("nobody", table(binary=True)), "404", "no model 'nobody'"),
            (lambda: triton_client.get_model_metadata("nobody"), "404", "no model"),
            (lambda: triton_client.get_model_config("concrete"), "404", "nothing at"),
            (lambda: triton_client.infer("penguins", table(binary=True)), "422", "6 features"),
            (lambda: triton_client.infer("concrete", table(binary=True),
                                         outputs=outputs("mean", binary=True)), "422", "mean"),
        ):  # fmt: skip
            error = error_of(InferenceServerException, call)
            assert error.status() == status, error
            assert text in error.message(), error


def aio(service: Service) -> None:
    """tritonclient.http.aio: is_server_live, infer in both modes"""

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(service.url[7:]) as triton_client:
            assert await triton_client.is_server_live()
            result = await triton_client.infer("concrete", table(binary=True))
            same(result.as_numpy("output"), service.concrete())
            result = await triton_client.infer(
                "concrete", table(binary=False), parameters=MC,
                response_compression_algorithm="gzip",
            )  # fmt: skip
            for name, expected in service.concrete_mc().items():
                same(result.as_numpy(name), expected)

    asyncio.run(ask())


if __name__ == "__main__":
    run(
        "tritonclient",
        [
            health, metadata, infer_eval, infer_mc, infer_mixed, infer_compressed, async_infer,
            errors, aio,
        ],
    )  # fmt: skip

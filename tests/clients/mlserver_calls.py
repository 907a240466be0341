"""MLServer's types and codecs, and its command `mlserver infer`."""

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    Parameters,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RequestOutput,
)
from oracle import CATEGORIES, CONCRETE, MC, PENGUINS, Service, column, error_of, run, same


def call(service: Service, path: str, body: str | None = None) -> bytes:
    content = None if body is None else body.encode()
    request = urllib.request.Request(f"{service.url}/v2{path}", content)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def infer(service: Service, model: str, request: InferenceRequest) -> InferenceResponse:
    body = call(service, f"/models/{model}/infer", request.model_dump_json())
    return InferenceResponse.model_validate_json(body)


def numpy_of(response: InferenceResponse, name: str) -> np.ndarray:
    [output] = [one for one in response.outputs if one.name == name]
    return NumpyCodec.decode_output(output)


def metadata(service: Service) -> None:
    """MetadataServerResponse, MetadataModelResponse, RepositoryIndexResponse"""
    assert MetadataServerResponse.model_validate_json(call(service, "")).name == "dropcast"
    said = MetadataModelResponse.model_validate_json(call(service, "/models/penguins"))
    assert {one.name for one in said.inputs} == {"input", *PENGUINS[0]}
    body = RepositoryIndexRequest(ready=True).model_dump_json()
    index = RepositoryIndexResponse.model_validate_json(call(service, "/repository/index", body))
    assert {"concrete", "penguins"} <= {entry.name for entry in index}


def numpy_codec(service: Service) -> None:
    """NumpyRequestCodec and NumpyCodec (FP32, FP64), eval mode"""
    for values in (CONCRETE, CONCRETE.astype(np.float64)):
        inputs = [NumpyCodec.encode_input("input", values)]
        response = infer(service, "concrete", InferenceRequest(id="7", inputs=inputs))
        assert response.id == "7"
        same(numpy_of(response, "output"), service.concrete())
    request = NumpyRequestCodec.encode_request(CONCRETE)
    request.inputs[0].name = "input"
    response = infer(service, "concrete", request)
    same(NumpyRequestCodec.decode_response(response), service.concrete())


def mc_mode(service: Service) -> None:
    """InferenceRequest with Parameters and RequestOutput, MC mode"""
    request = InferenceRequest(
        inputs=[NumpyCodec.encode_input("input", CONCRETE)],
        parameters=Parameters(**MC),
        outputs=[RequestOutput(name=name) for name in ("quantiles", "std", "mean")],
    )
    response = infer(service, "concrete", request)
    assert [output.name for output in response.outputs] == ["quantiles", "std", "mean"]
    for name, expected in service.concrete_mc().items():
        same(numpy_of(response, name), expected)
    assert response.parameters.model_dump()["seed"] == 7


def pandas_codec(service: Service) -> None:
    """PandasCodec with a mixed table and missing values, StringCodec, both modes"""
    probabilities, labels = service.penguins()
    # MLServer 1.7 does not know the texts of pandas 3, nor any column of texts and nulls.
    frame = pd.DataFrame({name: column(name) for name in PENGUINS[0]})
    frame = frame.astype(dict.fromkeys(CATEGORIES, object))
    for use_bytes in (True, False):
        request = PandasCodec.encode_request(frame, use_bytes=use_bytes)
        response = infer(service, "penguins", request)
        same(numpy_of(response, "output"), probabilities)
        [label] = [one for one in response.outputs if one.name == "label"]
        assert StringCodec.decode_output(label) == labels
        request.parameters = Parameters(mode="mc_dropout", n_samples=30, seed=7)
        names = ("mean", "entropy", "mutual_information", "samples")
        request.outputs = [RequestOutput(name=name) for name in names]
        response = infer(service, "penguins", request)
        for name, expected in service.penguins_mc().items():
            same(numpy_of(response, name), expected)


def command_line(service: Service) -> None:
    """`mlserver infer`, JSON and `--binary-data`, single and batched requests, eval mode"""
    expected = service.concrete()
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder, "requests.txt"), Path(folder, "answers.txt")
        lines = []
        for i in range(4):
            rows = NumpyCodec.encode_input("input", CONCRETE[i % 2 : i % 2 + 1])
            lines.append(InferenceRequest(id=str(i), inputs=[rows]).model_dump_json())
        given.write_text("\n".join(lines) + "\n")
        for more in ([], ["--binary-data"], ["--binary-data", "--batch-size", "4"]):
            got.unlink(missing_ok=True)
            subprocess.run(
                [Path(sys.executable).with_name("mlserver"), "infer", "--model-name", "concrete",
                 "--url", service.url.removeprefix("http://"), "--input-data-path", given,
                 "--output-data-path", got, *more],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
            read = InferenceResponse.model_validate_json
            answers = [read(line) for line in got.read_text().splitlines()]
            assert len(answers) == 4
            for answer in answers:
                row = int(answer.id) % 2
                same(numpy_of(answer, "output"), expected[row : row + 1])


def errors(service: Service) -> None:
    """InferenceErrorResponse"""
    body = InferenceRequest(inputs=[NumpyCodec.encode_input("input", CONCRETE)]).model_dump_json()
    error = error_of(urllib.error.HTTPError, lambda: call(service, "/models/penguins/infer", body))
    said = InferenceErrorResponse.model_validate(json.loads(error.read()))
    assert "6 features" in said.error


if __name__ == "__main__":
    run("mlserver", [metadata, numpy_codec, mc_mode, pandas_codec, command_line, errors])

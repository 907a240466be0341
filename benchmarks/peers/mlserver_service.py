"""The network as a runtime of MLServer's, asked by the protocol that it speaks: a JSON tensor."""

from __future__ import annotations

import torch
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers import network


class Regression(MLModel):
    """The network; `parameters.uri` is its file of weights."""

    async def load(self) -> bool:
        assert self.settings.parameters is not None
        self.model = network.load(str(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        x = torch.tensor(tensor.data.root, dtype=torch.float32).reshape(tensor.shape)
        with torch.inference_mode():
            values = self.model(x)[:, 0].tolist()
        output = ResponseOutput(name="output", shape=[len(values), 1], datatype="FP32", data=values)
        return InferenceResponse(model_name=self.name, outputs=[output])

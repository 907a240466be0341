"""baal's MC dropout: `replicate` copies the rows T times, `iterate` calls the network T times."""

from __future__ import annotations

from collections.abc import Callable

from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import ModelWrapper, TrainingArgs
from torch import Tensor, nn

from benchmarks.peers.sampling_loop import answer


def make(network: nn.Module, mode: str, samples: int) -> Callable[[Tensor], Tensor]:
    """Its wrapper around the network."""
    arguments = TrainingArgs(use_cuda=False, replicate_in_memory=mode == "replicate")
    wrapper = ModelWrapper(MCDropoutModule(network), arguments)
    wrapper.eval()
    return lambda x: wrapper.predict_on_batch(x, iterations=samples)[:, 0].T


if __name__ == "__main__":
    answer(make)

"""torch-uncertainty's MC dropout: `on_batch` copies the rows T times, `loop` calls the network
T times.

Its file is loaded by itself: the package as a whole imports torchvision, whose wheels in the
package index are built for torch with CUDA and do not load beside torch for the CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from benchmarks.peers.sampling_loop import answer


def _load() -> ModuleType:
    package = importlib.util.find_spec("torch_uncertainty")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "methods" / "mc_dropout.py"
    spec = importlib.util.spec_from_file_location("mc_dropout", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mc_dropout = _load().mc_dropout


def make(network: nn.Module, mode: str, samples: int) -> Callable[[Tensor], Tensor]:
    """Its wrapper around the network."""
    wrapper = mc_dropout(
        network,
        num_estimators=samples,
        on_batch=mode == "on_batch",
        task="regression",
        probabilistic=False,
    ).eval()
    return lambda x: wrapper(x).reshape(samples, len(x))


if __name__ == "__main__":
    answer(make)

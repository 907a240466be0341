"""Devices and threads."""

import pytest
import torch

from models.device import available_threads, resolve_device
from models.errors import DeviceError


def test_auto_is_a_gpu_if_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu").type == "cpu"


def test_a_gpu_that_is_not_there_is_named() -> None:
    for name in ("cuda:99", "cuda:256", "cuda:999", "cuda:99999999999"):
        with pytest.raises(DeviceError, match=rf"device {name} is not here: torch .* sees \d+ GPU"):
            resolve_device(name)


@pytest.mark.parametrize("name", ["cuda:1.5", "cuda:-1", "cuda:", "abacus", ""])
def test_what_torch_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is no device: use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_threads_are_counted() -> None:
    assert available_threads() >= 1

"""Errors as they are really raised, and what a job says of them."""

import errno

import pytest
import torch
from safetensors import SafetensorError

from models.errors import NonFiniteError
from service.job_errors import describe


def test_memory_that_torch_is_refused() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert describe(caught.value)["code"] == "out_of_memory"
    assert describe(MemoryError())["code"] == "out_of_memory"
    assert describe(RuntimeError("shapes do not match"))["code"] == "internal"


def test_a_disk_that_is_full_whoever_writes() -> None:
    """The first text is what safetensors 0.8 says on a full file system (tests/e2e has one)."""
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert describe(SafetensorError(text))["code"] == "disk_full"
    assert describe(OSError(errno.ENOSPC, "No space left on device"))["code"] == "disk_full"
    assert describe(OSError(errno.EACCES, "Permission denied"))["code"] == "internal"


def test_outputs_that_are_no_numbers_any_more() -> None:
    described = describe(NonFiniteError([0]))
    assert described["code"] == "diverged"
    assert "try a lower learning_rate" in described["message"]

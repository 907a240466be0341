"""What a training process could not do, as its job's error: with a code, and what to try."""

from __future__ import annotations

import errno
from typing import Any

import torch
from safetensors import SafetensorError

from models.errors import DataError, DeviceError, DropcastError, NonFiniteError, TrainingError


def describe(error: Exception) -> dict[str, Any]:
    """The error as a job shows it: code, message, and the request field to blame."""
    if isinstance(error, DataError | TrainingError):
        return {
            "code": error.code,
            "message": str(error),
            "param": getattr(error, "param", None),
        }
    if isinstance(error, NonFiniteError):
        message = (
            "the trained network's outputs are not finite numbers: try a lower learning_rate, "
            "a gradient_clip or max_norm, fewer layers, and look for extreme values in the data"
        )
        return {"code": "diverged", "message": message, "param": None}
    if isinstance(error, DeviceError):
        return {"code": "no_such_device", "message": str(error), "param": "device"}
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _is_cpu_memory(error):
        code, message = (
            "out_of_memory",
            "the memory was not enough: try a smaller batch_size or hidden",
        )
    elif _is_full_disk(error):
        code, message = "disk_full", "the disk is full: free some space, then resume the job"
    elif isinstance(error, ValueError | DropcastError):
        code, message = "invalid_request", str(error)
    else:
        code, message = "internal", "the training process broke; the worker's log says how"
    return {"code": code, "message": message, "param": None}


def _is_cpu_memory(error: Exception) -> bool:
    """Torch has an error of its own only for a GPU's memory."""
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _is_full_disk(error: Exception) -> bool:
    """Also as safetensors says it, which has no errors of the system."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in str(error) for number in full)
    return isinstance(error, OSError) and error.errno in full

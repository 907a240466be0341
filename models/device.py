"""Which device computes, and with how many threads."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from models.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; auto is a GPU if there is one.

    Raises:
        DeviceError: there is no such device, or not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"{name!r} is no device: use auto, cpu, cuda or cuda:N")
    # torch keeps eight bits of the number.
    number = int(name.partition(":")[2] or 0)
    if name != "cpu" and number >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"device {name} is not here: torch {torch.__version__} sees {count} GPUs")
    return torch.device(name)


def available_threads() -> int:
    """Processors that this process may use: its affinity, or less by a cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return count if quota == "max" else max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count

"""How many GPUs this machine has for torch, asked by a process that does not load it."""

from __future__ import annotations

import ctypes
import subprocess
import sys


def count_gpus() -> int:
    """As many as torch sees; 0 at once where there is no driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    question = "import torch; print(torch.cuda.device_count())"
    ran = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=120, check=True
    )
    return int(ran.stdout.split()[-1])

"""Checkpoints of a training run: one safetensors file, from which the run goes on exactly.

What is not a tensor is JSON in the file's metadata. A checkpoint replaces the one before by
a rename, so that a crash leaves one or the other, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.errors import TrainingError
from models.training_run import Run, State

# Files of another format are of another run.
FORMAT = 2


def save_checkpoint(run: Run, path: Path) -> None:
    """Writes all that the next epoch depends on, torch's generators included."""
    tensors: dict[str, Tensor] = {}
    for part in ("network", "average", "best"):
        for name, value in getattr(run, part).state_dict().items():
            tensors[f"{part}.{name}"] = value
    for name, value in run.optimiser.state.items():
        tensors[f"optimiser.{name}"] = value
    tensors["generator.cpu"] = torch.get_rng_state()
    if run.training.x.is_cuda:
        tensors["generator.cuda"] = torch.cuda.get_rng_state(run.training.x.device)
    partial = path.with_name(path.name + ".partial")
    safetensors.torch.save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        partial,
        metadata={"state": json.dumps(asdict(run.state)), "run": _fingerprint(run)},
    )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(run: Run, path: Path) -> None:
    """Puts the run where it was when it wrote that file.

    Raises:
        TrainingError: the file is of a run with other settings or data, or not readable.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        message = f"the checkpoint {path.name} cannot be read ({error}): start a new job"
        raise TrainingError("damaged_checkpoint", message) from error
    if metadata["run"] != _fingerprint(run):
        message = f"the checkpoint {path.name} is of a run with other settings or data"
        raise TrainingError("checkpoint_mismatch", message)
    for part in ("network", "average", "best"):
        prefix = f"{part}."
        getattr(run, part).load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    run.optimiser.load({name: tensors[f"optimiser.{name}"] for name in run.optimiser.state})
    run.state = State(**json.loads(metadata["state"]))
    torch.set_rng_state(tensors["generator.cpu"])
    if run.training.x.is_cuda:
        torch.cuda.set_rng_state(tensors["generator.cuda"], run.training.x.device)


def _fingerprint(run: Run) -> str:
    """Names the run: its settings, and the data it is fitted to."""
    settings = json.dumps([FORMAT, run.network.config.to_dict(), asdict(run.options)])
    digest = hashlib.sha256(settings.encode())
    for split in (run.training, run.validation):
        digest.update(split.x.cpu().numpy().tobytes())
        digest.update(split.y.cpu().numpy().tobytes())
    return digest.hexdigest()

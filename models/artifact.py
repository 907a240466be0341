"""One model version on disk: four files in a folder, or the same four in a zip.

    manifest.json             schema, network shape, calibration, metrics, provenance
    weights.safetensors       the network
    calibration.safetensors   conformal scores
    SHA256SUMS                checksums of the three, as `sha256sum -c` reads them

Nothing is pickled: an artifact is data, never code. It is written under another name and
renamed, so that it exists wholly or not at all, and never changes afterwards.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.calibration import Calibration, CalibrationTable
from models.conformal import ScoreKind
from models.errors import ArtifactError
from models.manifest import check_manifest
from models.mlp import MLP, MLPConfig
from models.table import Schema

FORMAT = "dropcast-artifact"
FORMAT_VERSION = 2
# Read as well: without temperatures, and with conformal scores of one kind for each task.
OLD_FORMAT_VERSION = 1
OLD_SCORES: dict[str, ScoreKind] = {"std": "scaled", "entropy": "lac"}
FILES = ("manifest.json", "weights.safetensors", "calibration.safetensors")
SUMS = "SHA256SUMS"
MOST_BYTES = 2**31

# What reading a damaged zip, and making sense of a manifest or of tensors, can raise.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
)  # fmt: skip
MEANINGLESS = (
    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
    SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A trained network with all that is needed to ask it in its users' terms.

    `metrics`, `provenance` and `report` (`models.evidence`) are plain values for the version's
    card; `sha256` names the whole artifact once it has been saved or loaded.
    """

    schema: Schema
    network: MLP
    calibration: CalibrationTable
    created_at: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def encode(self, instances: Sequence[Any]) -> Tensor:
        """Inputs (N, D) float32 of N records.

        Raises:
            EncodeError: with the row and feature of each fault.
        """
        return torch.from_numpy(self.schema.encode(instances).inputs)

    def card(self) -> dict[str, Any]:
        """What there is to say of it, as plain values; model and version are the registry's."""
        config, target = self.network.config, self.schema.target
        finest, temperatures = self.calibration.finest, dict(self.calibration.temperatures)
        gaps = dict(self.calibration.analytic_gaps)
        input_p, *layer_p = self.network.probabilities
        return {
            "task": target.task,
            "target": target.name,
            "created_at": self.created_at,
            "features": [feature.describe() for feature in self.schema.features],
            "ignored_columns": dict(self.schema.ignored),
            "network": {
                "inputs": config.in_features,
                "hidden": list(config.hidden),
                "outputs": config.out_features,
                "activation": config.activation,
                "parameters": sum(p.numel() for p in self.network.parameters()),
            },
            "dropout": {"kind": config.dropout, "p": layer_p, "input_p": input_p},
            "metrics": dict(self.metrics),
            "calibration": {
                "method": "cross" if self.calibration.folds > 1 else "split",
                "folds": self.calibration.folds,
                "rows": len(finest.scores),
                "highest_coverage": finest.highest_coverage,
                "score": finest.score,
                "abstain_above": {finest.measure: finest.threshold},
            }
            | ({"temperature": temperatures} if temperatures else {})
            | ({"analytic_gaps": gaps} if gaps else {}),
            "provenance": dict(self.provenance),
            "artifact_sha256": self.sha256,
            "report": dict(self.report),
        } | ({"labels": list(target.labels)} if target.labels else {})

    def decode(self, outputs: Tensor) -> Tensor:
        """Network outputs (…, C) in the target's units, or as probabilities; float64."""
        return torch.from_numpy(self.schema.decode(outputs.detach().cpu().numpy()))


def save_artifact(artifact: Artifact, folder: Path) -> str:
    """Writes the artifact as that folder, which must not exist, and gives its checksum.

    Raises:
        ArtifactError: the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise ArtifactError(f"{folder} exists already, and artifacts never change")
    weights = {name: value.contiguous() for name, value in artifact.network.state_dict().items()}
    table = artifact.calibration.by_samples
    scores = {str(count): torch.from_numpy(c.scores) for count, c in table.items()}
    contents = {
        "manifest.json": json.dumps(_manifest(artifact), indent=1, allow_nan=False).encode(),
        "weights.safetensors": safetensors.torch.save(weights),
        "calibration.safetensors": safetensors.torch.save(scores),
    }
    sums = "".join(
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in FILES
    ).encode()
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        for name, content in (*contents.items(), (SUMS, sums)):
            _write_durably(partial / name, content)
        _sync_folder(partial)
        partial.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return hashlib.sha256(sums).hexdigest()


def load_artifact(path: str | Path) -> Artifact:
    """The artifact in a folder or a zip, its checksums verified; the network in eval mode.

    Raises:
        ArtifactError: missing, damaged, or not an artifact of this format.
    """
    path = Path(path)
    contents = _read_zip(path) if path.is_file() else _read_folder(path)
    sums = contents[SUMS]
    expected = f"{FORMAT} {FORMAT_VERSION}"
    for line in sums.decode("ascii", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if name in FILES and hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ArtifactError(
                f"{path}: {name} does not match its checksum; it was damaged or changed, get a "
                "fresh copy"
            )
    if [line.partition("  ")[2] for line in sums.decode("ascii", "replace").splitlines()] != [
        *FILES
    ]:
        raise ArtifactError(f"{path}: {SUMS} does not list the files of a {expected}")
    try:
        manifest = json.loads(contents["manifest.json"])
        form, number = manifest["format"], manifest["format_version"]
        if form != FORMAT or number not in (OLD_FORMAT_VERSION, FORMAT_VERSION):
            found = f"{form} {number}"
            raise ArtifactError(f"{path} is a {found}, and this release reads {expected}")
        return _assemble(manifest, contents, hashlib.sha256(sums).hexdigest())
    except MEANINGLESS as error:
        raise ArtifactError(f"{path} does not describe a network: {error}") from error


def _manifest(artifact: Artifact) -> dict[str, Any]:
    table = artifact.calibration.by_samples
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_at": artifact.created_at,
        "schema": artifact.schema.to_dict(),
        "network": artifact.network.config.to_dict(),
        "calibration": {
            "measure": artifact.calibration.finest.measure,
            "thresholds": {str(count): c.threshold for count, c in table.items()},
            "scores": {str(count): c.score for count, c in table.items()},
            "folds": artifact.calibration.folds,
            "temperatures": dict(artifact.calibration.temperatures),
            "analytic_gaps": dict(artifact.calibration.analytic_gaps),
        },
        "metrics": dict(artifact.metrics),
        "provenance": dict(artifact.provenance),
        "report": dict(artifact.report),
    }


def _assemble(manifest: dict[str, Any], contents: dict[str, bytes], sha256: str) -> Artifact:
    check_manifest(manifest)
    schema = Schema.from_dict(manifest["schema"])
    config = MLPConfig(**manifest["network"])
    sizes = (schema.in_features, schema.target.out_features, schema.target.task)
    if sizes != (config.in_features, config.out_features, config.head):
        raise ValueError("the schema and the network differ in size or task")
    weights = safetensors.torch.load(contents["weights.safetensors"])
    if not all(w.dtype == torch.float32 and bool(w.isfinite().all()) for w in weights.values()):
        raise ValueError("a weight is not a finite 32-bit number")
    # On the meta device nothing is allocated for a shape that the weights do not have.
    with torch.device("meta"):
        network = MLP(config)
    network.load_state_dict(weights, assign=True)
    scores = safetensors.torch.load(contents["calibration.safetensors"])
    return Artifact(
        schema,
        network.eval(),
        _calibration(manifest["calibration"], scores, manifest["format_version"]),
        manifest["created_at"],
        manifest["metrics"],
        manifest["provenance"],
        manifest.get("report", {}),  # artifacts made before it was kept have none
        sha256,
    )


def _calibration(
    values: dict[str, Any], scores: dict[str, Tensor], version: int
) -> CalibrationTable:
    measure, thresholds = values["measure"], values["thresholds"]
    if version == OLD_FORMAT_VERSION:
        kinds = dict.fromkeys(thresholds, OLD_SCORES[measure])
        values = {"scores": kinds, "folds": 1, "temperatures": {}, "analytic_gaps": {}}
    return CalibrationTable(
        {
            int(count): Calibration(
                scores[count].double().numpy(), measure, threshold, values["scores"][count]
            )
            for count, threshold in thresholds.items()
        },
        values["folds"],
        values["temperatures"],
        values["analytic_gaps"],
    )


def _read_folder(folder: Path) -> dict[str, bytes]:
    missing = [name for name in (*FILES, SUMS) if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(f"{folder} is not an artifact: it lacks {', '.join(missing)}")
    return {name: (folder / name).read_bytes() for name in (*FILES, SUMS)}


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            missing = [name for name in (*FILES, SUMS) if name not in names]
            if missing:
                raise ArtifactError(f"{path} is not an artifact: it lacks {', '.join(missing)}")
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise ArtifactError(f"{path} would unpack to more than {MOST_BYTES} bytes")
            return {name: archive.read(name) for name in (*FILES, SUMS)}
    except UNREADABLE as error:
        raise ArtifactError(f"{path} is not a readable zip file: {error}") from error


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Whether a new version becomes the one in production."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether to promote, and why; as a comparison it holds only while production is still
    `rival`, the version number it was compared with (None: there was none). `comparison` is what
    was compared, if anything was."""

    promote: bool
    reason: str
    is_comparison: bool = False
    rival: int | None = None
    comparison: Mapping[str, Any] | None = None

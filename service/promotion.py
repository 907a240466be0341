"""Whether a new version becomes the one in production."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether to promote, and why; as a comparison it holds only while production is still
    `rival`, the version number it was compared with (None: there was none)."""

    promote: bool
    reason: str
    is_comparison: bool = False
    rival: int | None = None

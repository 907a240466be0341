"""Coverage-guided fuzzing of what reads strangers' bytes; `atheris` belongs in an environment of
its own that sees this one's packages.

    python -m tests.fuzz requests|files|artifacts -max_total_time=600 [CORPUS_FOLDER]

What comes after the target is libFuzzer's. A finding is any exception but those that have a
status of their own (`service.errors.KINDS`); the input that led there is left as `crash-…`.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["models", "service", "tests.fuzz"]):
    from tests.fuzz import targets


def main() -> None:
    """Fuzzes the target that is named first."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(__doc__)
    target = targets.TARGETS[sys.argv[1]]()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

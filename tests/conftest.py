"""What all tests share."""

from typing import Any

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

# The networks here are small: a second thread gains little, and where two processes share two
# cores each waits for the other's, several times slower.
torch.set_num_threads(1)


# Files that share what is expensive to start, and so have to share the process of their tests.
TOGETHER = {
    "the browser": ("tests/browser/",),
    "the trained examples": (
        "tests/e2e/test_commands.py", "tests/e2e/test_oip_clients.py", "tests/e2e/test_readme.py",
    ),
}  # fmt: skip


class FilesThatShare(LoadFileScheduling):
    """The tests of a file go to one process, and so do those of files that share."""

    def _split_scope(self, nodeid: str) -> str:
        for shared, files in TOGETHER.items():
            if nodeid.startswith(files):
                return shared
        return super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return FilesThatShare(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A service or a trainer that a test ran in this process has set its own number."""
    torch.set_num_threads(1)

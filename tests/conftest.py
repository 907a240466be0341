"""What all tests share."""

from pathlib import Path

import pytest
import torch

# One service and one browser for all files there.
TOGETHER = Path(__file__).parent / "browser"

# The networks here are small: a second thread gains little, and where two processes share two
# cores each waits for the other's, several times slower.
torch.set_num_threads(1)


# First, as pytest-xdist reads the groups when it comes to this hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file run in one process, one after the other."""
    for item in items:
        group = TOGETHER if TOGETHER in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(group.relative_to(TOGETHER.parent).as_posix()))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A service or a trainer that a test ran in this process has set its own number."""
    torch.set_num_threads(1)

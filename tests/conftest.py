"""What all tests share."""

import pytest
import torch

# The networks here are small: a second thread gains little, and where two processes share two
# cores each waits for the other's, several times slower.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A service or a trainer that a test ran in this process has set its own number."""
    torch.set_num_threads(1)

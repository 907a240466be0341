"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The networks here are small: a second thread gains little, and where two processes share
    two cores each waits for the other's, several times slower. A service in this process sets
    its own number."""
    torch.set_num_threads(1)

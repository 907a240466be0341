"""What all tests share."""

import torch

# The networks here are small: a second thread gains little, and loses much on a busy machine.
torch.set_num_threads(1)

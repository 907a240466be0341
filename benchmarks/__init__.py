"""Measurements, one command each: `python -m benchmarks NAME`, or all of them without a name."""

import os

# As the service has it, so that what is measured here and in other processes waits alike:
# OpenMP's threads sleep. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

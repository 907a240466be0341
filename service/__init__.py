"""Dropcast's service: HTTP, storage, jobs, commands."""

import os

# Read when torch is loaded, and inherited by every process that is started. OpenMP's threads
# spin while they wait for each other, which on a processor that others use as well makes a
# product of small matrices tens of times slower; asleep, they cost nothing when alone either.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""Measurements, one command each: `python -m benchmarks NAME`, or all of them with `make bench`."""

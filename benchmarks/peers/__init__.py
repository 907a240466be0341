"""What others serve and sample with, each run in an environment of its own.

Nothing here imports the service: it needs torch, safetensors and the package it measures.
"""

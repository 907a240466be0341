"""The Open Inference Protocol v2: tensors, as JSON or as bytes, around the same computation."""

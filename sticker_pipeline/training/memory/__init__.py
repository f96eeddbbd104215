"""The memory of a training, computed before any model is loaded."""

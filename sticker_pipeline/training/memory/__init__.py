"""The memory that a training takes, computed before any model is loaded."""

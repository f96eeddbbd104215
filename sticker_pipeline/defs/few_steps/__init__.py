"""Assets for sampling in a few steps."""

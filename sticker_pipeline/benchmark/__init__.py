"""Metrics of generated images, choice of an epoch, and release gate."""

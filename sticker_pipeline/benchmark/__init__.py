"""Metrics of generated images, the choice of an epoch, and the gate of a release."""

"""Faster layers and launches with the same results; all are optional."""

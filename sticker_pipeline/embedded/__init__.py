"""Draws the demo's characters and trains the tiny models in data/models/embedded.

Only the command line and tests import it.
"""

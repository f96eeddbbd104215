"""The demo's own world: draws its characters and trains the tiny models kept in data/models/embedded.

Nothing in the stages imports it; only the command line and tests do.
"""

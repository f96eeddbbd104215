"""Processes that stop in order, share processors, and write to a terminal."""

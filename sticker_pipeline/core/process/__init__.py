"""Processes that end in good order, share processors, and write to a terminal."""

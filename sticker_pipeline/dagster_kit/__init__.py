"""Machinery of the Dagster shell for `defs/`."""

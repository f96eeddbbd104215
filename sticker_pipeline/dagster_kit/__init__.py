"""Machinery of the Dagster shell, used by the definitions in `defs/`."""

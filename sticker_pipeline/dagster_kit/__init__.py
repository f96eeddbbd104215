"""Machinery of the Dagster shell: what the definitions in `defs/` are made with."""

"""Dagster shell: reads inputs, calls a stage, attaches metadata.

It has no domain logic and no heavy imports.
"""

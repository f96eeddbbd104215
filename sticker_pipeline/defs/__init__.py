"""Dagster shell: reads inputs, calls a stage, attaches metadata; no domain logic, no heavy imports."""

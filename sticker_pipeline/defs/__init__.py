"""The Dagster shell: reads inputs, calls a stage, attaches metadata.

No domain logic, no heavy imports.
"""

"""The command line: what the UI of Dagster does not do."""

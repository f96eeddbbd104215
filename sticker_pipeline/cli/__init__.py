"""Command line for functions that Dagster's UI lacks."""

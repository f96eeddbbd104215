"""The line in Dagster's UI, as a person uses it: the real server, and a real browser."""

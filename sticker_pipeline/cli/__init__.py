"""The command line: functions that Dagster's UI lacks."""

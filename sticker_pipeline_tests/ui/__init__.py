"""Tests of Dagster's UI with the real server and a real browser."""

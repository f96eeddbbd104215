"""The partition sets, kept by the folder sensor: one partition per character, and one per style."""

import dagster as dg

CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")
STYLES = dg.DynamicPartitionsDefinition(name="styles")

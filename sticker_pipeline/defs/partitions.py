"""The partition set: one partition per character, added by the folder sensor."""

import dagster as dg

CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")

"""Partition sets: characters and styles (from the folder sensor), and profiles."""

import dagster as dg

from sticker_pipeline.core.profile import PROFILES

CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")
STYLES = dg.DynamicPartitionsDefinition(name="styles")
PROFILE_NAMES = dg.StaticPartitionsDefinition(list(PROFILES))

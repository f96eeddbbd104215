"""The partition sets: one partition per character and one per style, kept by the folder sensor; one per profile."""

import dagster as dg

from sticker_pipeline.core.profile import PROFILES

CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")
STYLES = dg.DynamicPartitionsDefinition(name="styles")
PROFILE_NAMES = dg.StaticPartitionsDefinition(list(PROFILES))

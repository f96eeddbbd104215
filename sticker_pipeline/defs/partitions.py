"""The partition sets: one partition per character, added by the folder sensor; and one per profile."""

import dagster as dg

from sticker_pipeline.profile import PROFILES

CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")
PROFILE_NAMES = dg.StaticPartitionsDefinition(list(PROFILES))

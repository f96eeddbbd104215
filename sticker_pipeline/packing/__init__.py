"""Sticker packs: images cut out, outlined, placed, encoded for each platform."""

"""Sticker LoRAs from folders of a character's GIFs, stickers and artwork."""

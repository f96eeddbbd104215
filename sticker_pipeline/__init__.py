"""Trains a sticker LoRA from a folder of a character's GIFs, stickers and artwork."""

"""Latents and encodings, made once and kept on disk by content."""

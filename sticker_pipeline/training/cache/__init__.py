"""Latents and encodings, cached on disk by content."""

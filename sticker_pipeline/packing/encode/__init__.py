"""Encoders, one for each format."""

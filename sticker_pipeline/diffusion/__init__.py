"""Base models and sampling code shared by training and generation."""

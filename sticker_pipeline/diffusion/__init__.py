"""Base models and how they draw: what training and generation share."""

"""Training frequency of each frame."""

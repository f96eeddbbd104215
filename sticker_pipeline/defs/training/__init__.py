"""The asset of a character's training."""

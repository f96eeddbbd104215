"""The training of a LoRA. `train.py` reads from top to bottom; each part stands in a module beside it."""

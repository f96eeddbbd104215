"""The training of a LoRA: `train.py` is the entry point."""

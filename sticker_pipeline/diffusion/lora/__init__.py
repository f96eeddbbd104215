"""LoRA files: their keys, the layouts of other trainers, and how they change a model."""

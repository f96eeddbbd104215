"""LoRA files: keys, layouts of other trainers, application to a model."""

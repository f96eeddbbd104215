"""Latent consistency distillation: a LoRA that lets its base model draw in a few steps (LCM-LoRA, Luo et al. 2023).

It runs in a process of its own: `python -m sticker_pipeline.training.distill SPEC.json`. Nothing about characters.
"""

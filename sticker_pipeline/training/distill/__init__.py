"""Latent consistency distillation: a LoRA for generation in few steps.

LCM-LoRA, Luo et al. 2023. Runs as `python -m sticker_pipeline.training.distill SPEC.json`.
"""

"""A named configuration to generate with."""

from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.core.settings import GenerationSettings


@dataclass(frozen=True)
class SamplingConfig:
    """LoRA files with strengths, in order of application, and generation settings."""

    name: str
    loras: list[tuple[Path, float]]
    settings: GenerationSettings

    @property
    def calls(self) -> int:
        """U-Net calls per image; guidance doubles them."""
        return self.settings.steps * (2 if self.settings.guidance_scale > 1 else 1)

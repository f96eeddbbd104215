"""What a sweep recommends, as files and settings to draw with, for the assets that draw with it.

Which settings count, and why others do not, belongs to benchmark/recommend.py; it is observed with the character.
"""

from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.defs.scopes import CharacterStep
from sticker_pipeline.generation.cells import Cell, drawn_with, loras_of
from sticker_pipeline.roots.loras import LORA_FILE, lcm_for, style_lora
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import file_sha256


@dataclass(frozen=True)
class Recommended:
    """A way to draw in at most `budget` steps: LoRA files with their strengths, in the order in which they are applied,
    and everything else."""

    budget: int
    loras: list[tuple[Path, float]]
    settings: GenerationSettings


def recommended(work: CharacterStep, section: str, lora: Path, strength: float) -> list[Recommended]:
    """What `section` of the character recommends for the LoRA at `lora`, the fewest steps first, but for what comes to
    drawing as the profile draws, with this LoRA alone at `strength`: that is drawn anyway."""
    generation = work.profile.generation
    style = style_lora(work.character, work.store)
    lcm = lcm_for(file_sha256(lora), work.character, work.profile, work.store)
    found = []
    for value in work.roots[section]["settings"]:
        cell = Cell(**value["cell"])
        loras = loras_of(
            cell,
            style=style.file(LORA_FILE) if style else None,
            character=lora,
            lcm=lcm.file(LORA_FILE) if lcm else None,
        )
        settings = drawn_with(cell, generation).model_copy(update={"scheduler": value["scheduler"]})
        if (loras, settings) != ([(lora, strength)], generation):
            found.append(Recommended(value["budget"], loras, settings))
    return found

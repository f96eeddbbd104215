"""Rival LoRAs to compare a character with, and reasons against unusable ones."""

from pathlib import Path

from sticker_pipeline.core.character import Character, Rival, may_lead
from sticker_pipeline.core.files.inside import OutsideError, real_path
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import MAX_TOKENS
from sticker_pipeline.core.texts import shortened
from sticker_pipeline.diffusion.base_model import config_folder
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline.diffusion.lora.scale import CONFIGURATION
from sticker_pipeline.generation.prompts import Prompt, prompts_beginning
from sticker_pipeline.tagging.length import TokenCounter, token_counter

MOST_WORDS = 400  # letters of an error, in a sentence


def usable_rivals(character: Character, profile: Profile) -> tuple[list[Rival], list[str]]:
    """Usable rivals, and a sentence on each of the others.

    Files must be readable and prompts within the token limit; only its application shows whether a LoRA fits the base
    model. If there are rivals, raises PromptError where the profile lacks a medium of the character, and ValueError for
    a base model without tokenizer.
    """
    rivals = character.settings.benchmark.rivals
    if not rivals:
        return [], []
    with config_folder(profile.base, profile.family) as configs:
        counter = token_counter(configs / "tokenizer")
    usable, left_out = [], []
    for rival in rivals:
        why = _why_not(character, profile, rival, counter)
        if why is None:
            usable.append(rival)
        else:
            left_out.append(is_left_out(rival.name, why))
    return usable, left_out


def rival_file(character: Character, rival: Rival) -> Path:
    return character.folder / rival.lora


def rival_prompts(character: Character, profile: Profile, rival: Rival) -> list[Prompt]:
    """The benchmark's prompts with the rival's own trigger."""
    return prompts_beginning(character, profile, {}, otherwise=[rival.trigger])


def is_left_out(name: str, why: str) -> str:
    """Sentence about an unmeasured rival."""
    return f"Rival '{name}' is left out: {why}"


def why_not_generated(error: Exception) -> str:
    """Sentence on an error during a rival's generation, with remedy."""
    import torch

    lines = str(error).splitlines() or [type(error).__name__]
    words = shortened(" ".join(" ".join(lines).split()), MOST_WORDS)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in words:
        return (
            f"there was not enough memory to generate with it ({lines[0]}). Free some, or lower "
            "generation.batch_size in the profile, and materialize samples again."
        )
    if isinstance(error, OSError):
        return f"its file cannot be read ({words}). Make it readable, or name another one."
    if isinstance(error, ValueError):  # includes our own errors, which have remedies
        return words
    return (
        f"generating with it failed ({type(error).__name__}: {words}). Name another file, or remove it from "
        "character.yaml."
    )


def _why_not(character: Character, profile: Profile, rival: Rival, counter: TokenCounter) -> str | None:
    prompts = [prompt.text for prompt in rival_prompts(character, profile, rival)]
    longest = max(counter.count(prompts), default=0)
    if longest > MAX_TOKENS:
        return (
            f"with its trigger a prompt has {longest} tokens, and {MAX_TOKENS} are read: shorten the trigger, "
            "or benchmark.prompts, in character.yaml."
        )
    file = rival_file(character, rival)
    try:
        for path in (file, file.parent / CONFIGURATION):
            real_path(path, character.roots)
        read_any_lora(file, profile.family)
    except OutsideError as error:
        target = shortened(str(error.filename2))
        return f"its file leads out of the character's folder, to {target}: {may_lead(character.folder)}"
    except (OSError, ValueError, MemoryError) as error:
        return why_not_generated(error)
    return None

"""Checks of a character's prompts before any work: length, ineffective parts."""

from collections.abc import Sequence

from sticker_pipeline.core.character import FILE_NAME, Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import MAX_TOKENS
from sticker_pipeline.diffusion.base_model import config_folder
from sticker_pipeline.generation.prompts import PromptError, benchmark_prompts, too_long
from sticker_pipeline.tagging.captions import habits
from sticker_pipeline.tagging.length import token_counter


def prompt_problem(character: Character, profile: Profile) -> str:
    """Reason why benchmark prompts cannot be generated, or "".

    The base model of `profile` must exist. Raises ValueError, naming the folder, where a prompt may be too long and the
    base model has no tokenizer.
    """
    try:
        prompts = [prompt.text for prompt in benchmark_prompts(character, profile)]
    except PromptError as error:
        return str(error)
    long = [prompt for prompt in prompts if len(prompt) > MAX_TOKENS]  # a token has at least one letter
    return next(iter(_too_long(long, profile)), "") if long else ""


def _too_long(prompts: Sequence[str], profile: Profile) -> list[str]:
    with config_folder(profile.base, profile.family) as configs:
        return too_long(prompts, token_counter(configs / "tokenizer").count)


def prompt_notes(character: Character) -> list[str]:
    """Sentences on parts of `benchmark.prompts` that only other programs understand."""
    found = dict.fromkeys(note for text in character.settings.benchmark.prompts for note in habits(text))
    return [f"{character.folder / FILE_NAME}: benchmark.prompts: {note}" for note in found]

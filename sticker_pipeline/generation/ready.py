"""Readiness of a character before any work: base model, models, prompts, files."""

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile, check_models
from sticker_pipeline.diffusion.base_model import BaseModelError, base_given, check_base
from sticker_pipeline.generation.check import prompt_problem
from sticker_pipeline.media.inventory import media_files, refused_links


def unready(character: Character, profile: Profile) -> str | None:
    """Reason why no step of the character works, or None."""
    if wrong := base_problem(profile):
        return f"{character.name}: {wrong}"
    try:
        check_models(profile)
        problem = prompt_problem(character, profile)
    except (OSError, ValueError) as error:  # no model files, no tokenizer
        return f"{character.name}: {error}"
    if problem:
        return f"{character.name}: {problem}"
    if not media_files(character.folder, character.roots):
        for link, why in refused_links(character.folder, character.roots).items():
            return f"{character.name}: there is no file that can be used in {character.folder}; {link} is {why}."
        return f"{character.name}: there is no file in {', '.join(character.groups)} of {character.folder}."
    return None


def base_problem(profile: Profile) -> str | None:
    """Reason why an existing base model is unusable, or None."""
    try:
        if base_given(profile.base):
            check_base(profile.base, profile.family)
    except (BaseModelError, OSError) as error:
        return str(error)
    return None

from pathlib import Path

from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.generation.check import prompt_notes, prompt_problem


def character(folder: Path, prompts: str):
    (folder / "nova" / "stickers").mkdir(parents=True)
    (folder / "nova" / "character.yaml").write_text(
        f"trigger: nova_x\ngroups:\n  stickers: {{medium: sticker}}\nbenchmark:\n  prompts: {prompts}\n"
    )
    return load_character(folder / "nova")


def test_a_prompt_is_measured_by_its_tokens_before_any_work(tiny_profile: Profile, tmp_path: Path) -> None:
    words = "smile " * 170  # and trigger, medium and commas
    assert prompt_problem(character(tmp_path / "fits", f'["{words}"]'), tiny_profile) == ""
    problem = prompt_problem(character(tmp_path / "long", f'[smile, "{words * 2}"]'), tiny_profile)
    assert "tokens, and 225 are read: 'nova_x, " in problem and "Shorten benchmark.prompts" in problem


def test_weights_and_escapes_are_no_tokens(tiny_profile: Profile, tmp_path: Path) -> None:
    weighted = ", ".join(["(smile:1.25)"] * 3 + ["(" + "smile " * 160 + ":0.5)"])
    assert prompt_problem(character(tmp_path, f'["{weighted}"]'), tiny_profile) == ""


def test_habits_are_noted_once_each(tmp_path: Path) -> None:
    notes = prompt_notes(character(tmp_path, '["smile, <lora:x:1>", "hat, <lora:x:1>", "(smile:1.2), hat"]'))
    (note,) = notes
    assert note.endswith("character.yaml: benchmark.prompts: '<lora:x:1>' loads nothing here: it is read as text")

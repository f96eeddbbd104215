"""Frameworks print nothing between our lines; our output and all errors are still printed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sticker_pipeline.cli.work import REFUSED
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.small_character import add_small_character

SETTINGS = """\
trigger: skv_small
groups: {gifs: {}, stickers: {}, art: {medium: art}}
training: {epochs: 1, samples_per_epoch: 16, rank: 4}
benchmark: {holdout: 0.3, prompts: [angry], gate: {one_source: 1.0, gain: 0.0}}
"""
OURS = [
    "",
    r"small (dataset|character)_line: .+",
    r"leaderboard_table: .+",
    r" {4}[a-z0-9_]+",  # a step
    r" {4}benchmark_checks failed:",  # the gate, of what was trained for seconds
    r"benchmark: [a-z_, ]+",
    r" {6}\S.*",  # what a step says
    # the trainer
    r"small: \d+ images, base model \S+, on \S+",
    r"memory saved by: .+",
    r"(holdout )?latents \d+/\d+",
    r"\d+ adapters; \d+ steps in 1 epoch",
    r"step \d+/\d+  epoch 1/1  loss [\d.]+  lr \S+  [\d.]+ img/s(  (about .+|a few seconds) left)?",
    r"done: \S+/epoch_01\.safetensors",
    # the outcome
    r"character  medium .+",
    r"[- ]+",
    r"small  +(all|art|sticker)  +lora .+",
    r"Means over the characters, of all mediums:",
    r"metric  +better  +LoRA .+",
    r"[a-z -]+  +(higher|lower|–)  .+",
    r"(Images|Report|LoRA|ComfyUI):  +/.+",
    r"Look at it: sticker-pipeline desk small",
    r"Profile embedded: Made with the embedded models: .+",
    r"See it all in the Dagster UI: .+",
    r"Not released, see above: small\. .+",
    # doctor
    r"(characters|artifacts|history|ok) +\S+.*",
    r"note: small: no source is for validation, .+",
    r"note:? +\S+: benchmark\.gate\.\w+ is .+, laxer than the default .+",
]
CLI = "from sticker_pipeline.cli.commands import main; main()"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of somebody who has set nothing, on a workspace with one small character."""
    root = tmp_path_factory.mktemp("workspace")
    add_small_character(root / "characters" / "small", "pip_comet", SETTINGS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONWARN", "STICKER_"))}
    yield {
        **kept,
        "DAGSTER_HOME": str(root / "dagster"),
        "STICKER_CHARACTERS": str(root / "characters"),
        "STICKER_ARTIFACTS": str(root / "artifacts"),
        "STICKER_MODELS": str(REPOSITORY / "data" / "models"),
    }


def run(world: dict[str, str], *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env={**world, **environment}, capture_output=True, text=True, cwd=REPOSITORY
    )


def strange(output: str) -> list[str]:
    """The lines that are none of ours."""
    return [line for line in output.splitlines() if not any(re.fullmatch(shape, line) for shape in OURS)]


def test_the_commands_of_a_person_print_nothing_but_ours(world: dict[str, str]) -> None:
    looked = run(world, "-c", CLI, "doctor")
    assert (looked.returncode, strange(looked.stdout), looked.stderr) == (0, [], "")
    made = run(world, "-c", CLI, "update", "small")
    assert (strange(made.stdout), made.stderr) == ([], "")
    assert "      1 epoch, 2 steps" in made.stdout and made.returncode == REFUSED, "its gate refuses it"
    spec = Path(world["STICKER_ARTIFACTS"]) / "small" / ".work" / "lora-spec" / "spec.json"
    trained = run(world, "-m", "sticker_pipeline.training", str(spec))
    assert (trained.returncode, strange(trained.stdout), trained.stderr) == (0, [], "")


def test_whoever_asks_for_warnings_gets_them(world: dict[str, str]) -> None:
    command = ("-c", CLI, "update", "nobody")
    assert run(world, *command).stderr.startswith("Error: There is no character 'nobody' in ")
    assert "BetaWarning" in run(world, *command, PYTHONWARNINGS="default").stderr
    assert "BetaWarning" in run(world, "-W", "default", *command).stderr


@pytest.mark.parametrize(
    "said, shown",
    [
        ("warnings.warn_explicit('w', UserWarning, 'x.py', 1, module='sticker_pipeline.media.gif')", True),
        ("warnings.warn_explicit('w', RuntimeWarning, 'x.py', 1, module='sticker_pipeline.media.gif')", True),
        ("warnings.warn_explicit('w', FutureWarning, 'x.py', 1, module='sticker_pipeline.media.gif')", False),
        ("warnings.warn_explicit('w', UserWarning, 'x.py', 1, module='torch.nn')", False),
        ("warnings.warn_explicit('w', UserWarning, 'x.py', 1, module='sticker_pipelines')", False),
        ("logging.getLogger('diffusers').warning('w')", False),
        ("logging.getLogger('diffusers.models.unets').warning('w')", False),
        ("logging.getLogger('diffusers').error('w')", True),
        ("logging.getLogger('sticker_pipeline').warning('w')", True),
    ],
)
def test_what_is_kept_quiet(said: str, shown: bool) -> None:
    code = f"import logging, warnings; from sticker_pipeline.core.process.quiet import quiet; quiet(); {said}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    assert bool(result.stderr) == shown


def test_a_choice_that_was_made_stays() -> None:
    code = (
        "import logging, os; logging.getLogger('peft').setLevel('INFO'); "
        "from sticker_pipeline.core.process.quiet import quiet; quiet(); "
        "names = ['DIFFUSERS_VERBOSITY', 'TRANSFORMERS_VERBOSITY']; "
        "print(*[os.environ[name] for name in names], logging.getLogger('peft').level)"
    )
    environment = {**os.environ, "DIFFUSERS_VERBOSITY": "info"}
    environment.pop("TRANSFORMERS_VERBOSITY", None)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.split() == ["info", "error", "20"]

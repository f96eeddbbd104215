"""The guide's commands, run in its order: in a shell, in a new project, with the embedded models.

COVERED and RECIPES name what runs elsewhere. A comment in the page marks what needs a network, a GPU or minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.core.kohya_settings.files import FILLED
from sticker_pipeline_tests.diffusion.base_headers import checkpoint, write_header
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.test_pages import COMMANDS

SMALL = """
training: {epochs: 2, samples_per_epoch: 48, rank: 16}
benchmark: {holdout: 0.3, prompts: ["angry, arms up"], gate: {one_source: 1.0, gain: 0.0}}
sampling_grid: {character_weights: [1.0], steps: [2], guidance_scales: [1.0], prompts_per_medium: 1}
"""
MARKS = ("network", "minutes", "GPU")  # in the comment of a command that is not run here
COVERED = {  # command -> file of tests that runs it, and the line there
    "make test": ("test_guide.py", "def test_the_commands_of_the_guide_do_as_it_says"),
    "sticker-pipeline ui --allow-host stickers.example.org": ("cli/test_ui.py", '"--allow-host", name'),
    "sticker-pipeline move-artifacts artifacts s3://stickers/artifacts": (
        "cli/test_storage.py",
        'run("move-artifacts", "artifacts", url)',
    ),
    "sticker-pipeline get luma/released_lora ./luma-lora": ("cli/test_storage.py", 'run("get", "luma/frames", "out")'),
    "sticker-pipeline gc": ("cli/test_storage.py", 'run("gc", "--remove")'),
    "sticker-pipeline request luma": ("cli/test_request.py", 'run("luma", "--job"'),
    "sticker-pipeline desk": ("cli/test_desk.py", 'run("desk", NAME, "--port"'),
    "sticker-pipeline desk luma": ("cli/test_desk.py", 'run("desk", NAME, "--port"'),
    "sticker-pipeline releases luma": ("cli/test_commands.py", 'run("releases", "luma")'),
    'sticker-pipeline roll-back luma 3 --reason "the eyes are green"': (
        "cli/test_commands.py",
        'run("roll-back", "luma", "1", "--reason"',
    ),
    "sticker-pipeline releases luma --sources 3": ("cli/test_tracing.py", 'run("releases", "luma", "--sources", "1")'),
    "sticker-pipeline fetch-models /downloads/model.safetensors --sha256 HASH --as sdxl/base": (
        "models/test_single.py",
        '["fetch-models", *arguments]',
    ),
}
RECIPES = {"make ui": "ui", "make ui PORT=3001": "ui --port 3001"}  # tests of the UI start what the recipe starts


@dataclass(frozen=True)
class Project:
    """A folder as after `git clone` and `make`, of a person whose home is `home`."""

    root: Path
    home: Path

    @property
    def characters(self) -> Path:
        return self.root / "data" / "characters"

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.root / "artifacts")

    def start(self, command: str) -> "subprocess.Popen[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STICKER_", "DAGSTER_"))}
        environment = {
            **kept,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DAGSTER_HOME": str(self.root / ".dagster"),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            ["bash", "-c", f"exec {command}" if "=" not in command.split()[0] else command],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, until: str = "") -> str:
        """Return the output of a command that succeeds, or, with `until`, is ended after this text."""
        process, lines = self.start(command), []
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if until and until in line:
                os.killpg(process.pid, signal.SIGINT)
                until = ""
                process.wait(60)
                return "".join(lines)
        assert process.wait() == 0 and not until, "".join(lines)[-3000:]
        return "".join(lines)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root, home = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home")
    (root / "data" / "characters").mkdir(parents=True)
    (root / ".venv").symlink_to(sys.prefix)
    for name in ("data/models", "pyproject.toml", "workspace.yaml", "dagster.yaml", "sticker_pipeline"):
        if (REPOSITORY / name).exists():
            (root / name).symlink_to(REPOSITORY / name)
    return Project(root, home)


def images(project: Project) -> None:
    add_small_character(project.home / "Images" / "luma", "velvet_moth", "")
    (project.home / "Images" / "luma" / "character.yaml").unlink()


def small_settings(project: Project) -> None:
    with (project.characters / "luma" / "character.yaml").open("a") as file:
        file.write(SMALL)


def few_slots(project: Project) -> None:
    with (project.characters / "luma" / "character.yaml").open("a") as file:
        file.write("pack: {slots: [hello, angry], seeds: 1, size: 6}\n")


def a_lora(project: Project) -> None:
    shutil.copy(
        project.store.read("luma", "selected_lora").folder / "lora.safetensors", project.root / "luma.safetensors"
    )


def two_loras(project: Project) -> None:
    lora = project.store.read("luma", "selected_lora").folder / "lora.safetensors"
    for name in ("style", "character"):
        (project.root / f"{name}.safetensors").write_bytes(lora.read_bytes())


def base_model(project: Project) -> None:
    write_header(project.root / "model.safetensors", checkpoint("sd15"))


def kohya_settings(project: Project) -> None:
    (project.root / "my.json").write_text(json.dumps(FILLED))
    presets = project.root / "kohya_ss" / "presets" / "lora"
    presets.mkdir(parents=True)
    (presets / "sd15 - mine.json").write_text(json.dumps(FILLED))


def kohya_images(project: Project) -> None:
    add_small_character(project.home / "kohya" / "img", "velvet_moth", "")
    folder = project.home / "kohya" / "img"
    (folder / "character.yaml").unlink()
    (folder / "gifs").rename(folder / "5_luma sticker")
    for name in ("stickers", "art"):
        (folder / name).rename(folder / f"2_luma {name}")
    for path in [*folder.rglob("*.png"), *folder.rglob("*.gif"), *folder.rglob("*.webp")]:
        path.with_suffix(".txt").write_text("luma, smile\n")
    (project.characters / "luma").rename(project.characters / "luma_of_images")


@dataclass(frozen=True)
class Step:
    """A command of the guide: what a person has done before it, and what it prints."""

    command: str
    shown: str
    before: Callable[[Project], None] = lambda project: None
    until: str = ""


LAUNCH = "dg launch --assets"
STEPS = [
    Step("sticker-pipeline new-character luma ~/Images/luma", "sticker-pipeline update luma", images),
    Step("sticker-pipeline update luma", "LoRA:", small_settings),
    Step("sticker-pipeline pack luma", "sticker_pack/pack.html", few_slots),
    Step("sticker-pipeline pack ~/Images/luma --platform telegram --out ~/luma-pack", "luma-pack/pack.html"),
    Step("sticker-pipeline trace ~/Images/luma/gifs/talk.gif", "gifs/talk.gif"),
    Step("sticker-pipeline trace luma.safetensors", "gifs/talk.gif", a_lora),
    Step("sticker-pipeline ui --help", "--allow-host"),
    Step("sticker-pipeline export-kohya luma ~/kohya/luma", "/kohya/luma has"),
    Step("sticker-pipeline import-kohya luma2 ~/kohya/luma", "sticker-pipeline update luma2"),
    Step(f"{LAUNCH} sampling_grid --partition luma", "2 settings of 2 images each"),
    Step(
        f"{LAUNCH} sampling_grid --partition luma --config-json "
        """'{"ops": {"sampling_grid": {"config": {"steps": [2, 4], "guidance_scales": [1.0]}}}}'""",
        "3 settings of 2 images each",
    ),
    Step(
        f"""{LAUNCH} lora --partition luma --config-json '{{"ops": {{"lora": {{"config": {{"epochs": 3}}}}}}}}'""",
        "checkpoints/epoch_03.safetensors",
    ),
    Step(
        "sticker-pipeline merge-loras both.safetensors style.safetensors:0.7 character.safetensors:1", "both", two_loras
    ),
    Step("tensorboard --logdir artifacts", "TensorBoard", until="TensorBoard"),
    Step("sticker-pipeline check-base model.safetensors --family sd15", "a base model of family sd15", base_model),
    Step("sticker-pipeline explain-kohya my.json", "network_dim", kohya_settings),
    Step("sticker-pipeline explain-kohya kohya_ss/presets/lora", "sd15 - mine"),
    Step("sticker-pipeline import-kohya luma ~/kohya/img", "sticker-pipeline update luma", kohya_images),
]


def plain(command: str) -> str:
    """Return a page's command without its comment, its program's folder, and repeated spaces."""
    return " ".join(command.partition(" #")[0].split()).removeprefix(".venv/bin/")


def test_the_commands_of_the_guide_do_as_it_says(project: Project) -> None:
    pages = {plain(command): command.partition(" #")[0] for command in COMMANDS}
    for step in STEPS:
        step.before(project)
        print(step.command)
        assert step.shown in project.run(pages[step.command], step.until), step.command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_is_run_or_marked(command: str) -> None:
    if not any(mark in command.partition(" #")[2] for mark in MARKS):
        assert plain(command) in {step.command for step in STEPS} | COVERED.keys() | RECIPES.keys()


@pytest.mark.parametrize(("file", "line"), COVERED.values())
def test_each_test_that_runs_others_is_there(file: str, line: str) -> None:
    assert line in (REPOSITORY / "sticker_pipeline_tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(("command", "starts"), RECIPES.items())
def test_make_starts_the_ui_after_mending(command: str, starts: str) -> None:
    recipe = subprocess.run(
        [*command.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in recipe.splitlines() if "sticker-pipeline " in line]
    started = [line.partition("sticker-pipeline ")[2].strip() for line in lines]
    assert started == ["doctor --mend", starts]

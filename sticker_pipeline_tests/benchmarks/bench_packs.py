"""Packs of real characters on each platform: `python -m sticker_pipeline_tests.benchmarks.bench_packs`.

Each character's stickers and animations are packed as by `sticker-pipeline pack FOLDER`, each platform in a process of
its own. Every file is verified twice: by our verifier, and by sticker-convert's checks with its preset for the
platform. That program is under the GPL: it is installed into an environment of its own and only started as a process.
Its presets are narrower than the platforms are; each kind of complaint is explained below the table, and one without an
explanation ends the benchmark with an error. So does any change in the characters' folders.

Arguments: `--all` stickers and animations (else a few), `--platforms signal,line`, `--characters gopher`,
`--environment FOLDER` of sticker-convert.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from sticker_pipeline.core.character import Pack, Platform
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.packing.folder import pack_folder
from sticker_pipeline_tests.benchmarks.bench_stickers import PATIENCE_S, cpu, installed
from sticker_pipeline_tests.conftest import REPOSITORY

CHARACTERS = ("anki_tan", "blobfox", "gopher")
FOLDERS = ("stickers", "gifs")
FEW = {"stickers": 6, "gifs": 3}  # of each character, evenly spread: enough for one set on each platform
PRESETS = {
    "telegram": "telegram",
    "whatsapp": "whatsapp",
    "line": "line",
    "discord": "discord",
    "signal": "signal",
    "imessage": "imessage_large",
    "mastodon": "mastodon",
    "misskey": "misskey",
    "kakao": "kakao",
}
CHECKS = """
import json, sys
from importlib.resources import files
from pathlib import Path
from sticker_convert.utils.media.codec_info import CodecInfo
from sticker_convert.utils.media.format_verify import FormatVerify
presets = json.loads(files("sticker_convert").joinpath("resources/compression.json").read_text())
for line in sys.stdin:
    name, preset = json.loads(line)
    path, rules = Path(name), presets[preset]
    info, res = CodecInfo(path), rules["res"]
    sides = tuple((res[side]["min"], res[side]["max"]) for side in "wh")
    spans = {key: (None, rules[key]["max"]) for key in ("fps", "duration")}  # the least are for its conversion
    both = {key: (rules[key]["img"], rules[key]["vid"]) for key in ("size_max", "format")}
    formats = tuple((value,) for value in both["format"])
    found = {
        "res": (FormatVerify.check_file_res(path, sides, info), info.res),
        "fps": (FormatVerify.check_file_fps(path, spans["fps"], info), info.fps),
        "duration": (FormatVerify.check_file_duration(path, spans["duration"], info), info.duration),
        "size": (FormatVerify.check_file_size(path, both["size_max"], info), path.stat().st_size),
        "format": (FormatVerify.check_format(path, formats, info), info.file_ext),
    }
    print(json.dumps({check: value for check, (passed, value) in found.items() if not passed}), flush=True)
"""  # run by sticker-convert's own Python
EXPLAINED = {
    ("telegram", "res"): "its preset is a square; Telegram asks for one side of 512 px, and up to 512 px for the other",
    ("telegram", "format"): "its preset makes stills as PNG; Telegram takes WebP as well",
    ("telegram", "fps"): "it measures a rate by the shortest frame; Telegram's 30 a second are kept on average",
    ("signal", "format"): "its preset makes stills as PNG; Signal takes WebP as well",
    ("signal", "fps"): "its preset has at most 30 frames a second; Signal has no such rule",
    ("signal", "size"): "its preset has 300,000 bytes; Signal-Desktop takes 300 KiB, 307,200 bytes",
    ("whatsapp", "fps"): "its preset has at most 30 frames a second; WhatsApp takes frames of 8 ms and more",
    ("line", "fps"): "its preset has at most 30 frames a second; LINE limits frames and whole seconds",
    ("discord", "fps"): "its preset has at most 60 frames a second; Discord has no such rule",
    ("imessage", "fps"): "its preset has at most 30 frames a second; Apple has no such rule",
    ("imessage", "duration"): "its preset lasts at most 2 s; Apple has no such rule",
    ("mastodon", "size"): "its preset has 50 kB, the limit of old servers; Mastodon takes 256 KiB",
    ("mastodon", "fps"): "its preset has at most 10 frames a second; Mastodon has no such rule",
    ("misskey", "size"): "its preset has 50 kB; Misskey states no number",
    ("misskey", "fps"): "its preset has at most 10 frames a second; Misskey has no such rule",
    ("misskey", "format"): "its preset makes PNG and GIF; Misskey takes WebP and APNG as well",
}


@dataclass(frozen=True)
class Packed:
    """A pack of one platform: its files, broken rules by our verifier, problems, seconds, and the peak of memory."""

    files: list[str]
    faults: list[str]
    problems: list[str]
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    """Print a row for each character and platform, then the complaints, explained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--characters", default=",".join(CHARACTERS))
    parser.add_argument("--platforms", default=",".join(name for name in get_args(Platform) if name != "kakao"))
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "sticker-convert-environment")
    arguments = parser.parse_args()
    realdata = REPOSITORY.parent / "shared" / "realdata"
    if not realdata.is_dir():
        sys.exit(f"{realdata} is not here: the real characters are needed.")
    watched = [realdata, REPOSITORY / "data" / "characters"]
    before = [hashes(folder) for folder in watched]
    program = installed(arguments.environment)
    print(f"{'character':12}{'platform':12}{'files':>6}{'faults':>8}{'theirs':>8}{'s':>8}{'CPU s':>8}{'peak MB':>9}")
    complaints: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    faults, problems = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for character in arguments.characters.split(","):
            source = selected(realdata / character, Path(temporary) / character, arguments.all)
            for platform in arguments.platforms.split(","):
                made = in_own_process(source, Path(temporary) / f"{character}-{platform}", platform)
                theirs = second_opinion(program, made.files, platform)
                refused = "-" if theirs is None else str(sum(map(bool, theirs)))
                print(
                    f"{character:12}{platform:12}{len(made.files):6}{len(made.faults):8}{refused:>8}{made.seconds:8.1f}"
                    f"{made.cpu_seconds:8.1f}{made.peak_mb:9.0f}",
                    flush=True,
                )
                faults += made.faults
                problems += [problem for problem in made.problems if problem not in problems]
                for file, found in zip(made.files, theirs or [], strict=False):
                    for check, value in found.items():
                        complaints[platform, check] += 1
                        examples.setdefault((platform, check), f"{Path(file).name}: {value}")
    for key, count in sorted(complaints.items()):
        why = EXPLAINED.get(key, "NOT EXPLAINED")
        print(f"sticker-convert, {key[0]}, {key[1]}: {count} (such as {examples[key]}): {why}")
    for sentence in [*faults, *problems]:
        print(sentence)
    changed = [str(folder) for folder, known in zip(watched, before, strict=True) if hashes(folder) != known]
    print(f"files of {sum(map(len, before))} in characters' folders that changed: {changed or 'none'}")
    if faults or changed or not complaints.keys() <= EXPLAINED.keys():
        sys.exit(1)


def selected(character: Path, target: Path, everything: bool) -> Path:
    """Copy a character's stickers and animations, all or a few evenly spread, into `target`."""
    for folder in FOLDERS:
        found = sorted(path for path in (character / folder).iterdir() if path.is_file())
        number = len(found) if everything else min(len(found), FEW[folder])
        (target / folder).mkdir(parents=True)
        for path in (found[at * len(found) // number] for at in range(number)):
            shutil.copyfile(path, target / folder / path.name)
    return target


def in_own_process(source: Path, target: Path, platform: str) -> Packed:
    """Pack in a new process, whose peak of memory is that of this pack."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(packed, source, target, platform).result()


def packed(source: Path, target: Path, platform: str) -> Packed:
    """Pack a folder without anything cached."""
    pack = Pack.model_validate({"platforms": [platform]})
    start = time.monotonic()
    made = pack_folder(source, target, pack, MediaSettings(), target / ".." / f"{target.name}-cache", _silent, _go_on)
    seconds = time.monotonic() - start
    files = [str(target / file) for file in made.pack.index["file"]]
    faults = [f"{platform}: {fault}" for own in made.pack.faults.values() for fault in own]
    cpu_seconds = cpu(resource.RUSAGE_SELF) + cpu(resource.RUSAGE_CHILDREN)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Packed(files, faults, made.problems, seconds, cpu_seconds, peak)


def _silent(what: str, done: int, total: int) -> None:
    """Take a count, and say nothing."""


def _go_on() -> None:
    """Never stop."""


def second_opinion(program: Path | None, files: Sequence[str], platform: str) -> list[dict[str, object]] | None:
    """Return sticker-convert's complaints on each file, check -> value; None without the program or a preset."""
    if program is None or platform not in PRESETS:
        return None
    asked = "".join(json.dumps([file, PRESETS[platform]]) + "\n" for file in files)
    run = subprocess.run(
        [str(program.with_name("python")), "-c", CHECKS],
        input=asked, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    if run.returncode:
        sys.exit(f"sticker-convert's checks failed: {run.stderr.strip().splitlines()[-1:]}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    main()

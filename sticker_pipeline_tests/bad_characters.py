"""Characters with wrong settings or files, each fault on its own."""

import json
import os
from pathlib import Path

from PIL import Image

T = "trigger: skv_bad\n"
_LEVELS = [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(_LEVELS)

# What is wrong in character.yaml -> its text, and words of the sentence about it.
SETTINGS: dict[str, tuple[str | bytes, str]] = {
    "markup": (T + '"[/x]": 1', "unknown key '[/x]'"),
    "no-date": (T + "benchmark: {prompts: [2024-31-12]}", "line 2, column 23: '2024-31-12' is no date"),
    "date": (
        T + "benchmark: {prompts: [2024-12-31]}",
        "'benchmark.prompts.0': 2024-12-31 is read as a date: put it into quotes if it is text.",
    ),
    "no-number": (T + "style: 0x_", "line 2, column 8: '0x_' is no whole number"),
    "tag-of-no-number": (T + "style: !!float ''", "'' is no number"),
    "tag-of-no-bool": (T + "style: !!bool perhaps", "'perhaps' is no yes or no"),
    "digits": (T + "style: " + "9" * 5000, "99999999999999999999… (4,980 more letters) is a number of more than 100"),
    "digits-in-sixties": (T + "style: 1" + ":59" * 1000, "is a number of more than 100 digits"),
    "deep-flow": (T + "curation: " + "[" * 100_000, "lie more than 32 deep in each other"),
    "deep-block": ("- " * 100_000, "lie more than 32 deep in each other"),
    "deep-keys": ("? " * 100_000, "lie more than 32 deep in each other"),
    "bomb": (BOMB, "there are more than 20,000 values, with those that aliases repeat"),
    "alias-of-itself": (T + "curation: &a {blacklist: [*a]}", "an alias lies inside the value that it repeats"),
    "alias-of-nothing": (T + "style: *a", "found undefined alias 'a'"),
    "3-mb-of-tags": (T + "curation:\n  blacklist:\n" + "  - tag\n" * 400_000, "bytes: more than 262144"),
    "million-prompts": (T + "benchmark:\n  prompts:\n" + "  - smile\n" * 10**6, "bytes: more than 262144"),
    "many-prompts": (T + "benchmark: {prompts: [" + "smile," * 1_001 + "]}", "should have at most 1000 items"),
    "many-rivals": (
        T + "benchmark: {rivals: [" + "".join(f"{{name: r{i}, lora: a, trigger: b}}," for i in range(51)) + "]}",
        "should have at most 50 items",
    ),
    "numbers-as-prompts": (T + "benchmark: {prompts: [" + "1," * 1_000 + "]}", "999 more values are wrong"),
    "many-values": (T + "curation: {blacklist: [" + "a," * 30_000 + "]}", "there are more than 20,000 values"),
    "5000-groups": (T + "groups:\n" + "".join(f"  g{i}: {{}}\n" for i in range(5000)), "groups.g0: there is no folder"),
    "5000-keys": (T + "".join(f"k{i}: 1\n" for i in range(5000)), "4,999 more values are wrong"),
    "escape-of-no-letter": ('trigger: "\\UFFFFFFFF"', "line 1: it holds an invalid number or escape"),
    "escape-beyond-unicode": ('trigger: "\\U00110000"', "line 1: it holds an invalid number or escape"),
    "yaml-version": ("%YAML 1." + "9" * 5_000 + "\n---\n" + T, "it holds an invalid number or escape"),
    "million-epochs": (T + "training: {epochs: 1000000}", "less than or equal to 10000"),
    "key-number": (T + "1: 2", "Keys should be strings"),
    "key-null": (T + "~: 2", "Keys should be strings"),
    "key-date": (T + "2024-12-31: 2", "Keys should be strings"),
    "key-list": (T + "? [a]\n: b", "found unhashable key"),
    "key-twice": (T + "trigger: other", "line 2, column 1: the key 'trigger' occurs twice"),
    "key-twice-inside": (T + "curation: {aliases: {a: b, a: c}}", "the key 'a' occurs twice"),
    "python": (T + "style: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "binary": (T + "style: !!binary aGVsbG8=", "could not determine a constructor"),
    "set": (T + "curation: {blacklist: !!set {a, b}}", "could not determine a constructor"),
    "merge-of-nothing": (T + "<<: 1", "expected a mapping or list of mappings for merging"),
    "infinite": (T + "training: {learning_rate_unet: .inf}", "should be a finite number"),
    "not-a-number": (T + "training: {weight_decay: .nan}", "should be a finite number"),
    "infinite-gate": (T + "benchmark: {gate: {diversity: .inf}}", "should be a finite number"),
    "negative-zero": (T + "groups: {gifs: {share: -0.0}}", "greater than 0"),
    "long-key": (T + "? " + "x" * 100_000 + "\n: 1", "… (23 more letters)'. Known here"),
    "long-profile": (T + "profile: " + "x" * 100_000, "There is no profile 'xxx"),
    "long-value": (T + f"media: {{max_pixels: '{'x' * 100_000}'}}", "more letters): Input should be a valid integer"),
    "long-group": (T + "groups: {" + "x" * 500 + ": {}}", "there is no folder"),
    "group-up": (T + "groups: {..: {}}", "there is no folder"),
    "nul": (b"trigger: x\0", "it holds the control character U+0000"),
    "nul-escaped": ('trigger: "x\\0"', "invisible characters (\\x00)"),
    "latin-1": (b"trigger: \xe9", "byte 9 is not UTF-8"),
    "utf-16": ("trigger: a b".encode("utf-16"), "'trigger' = 'a b'"),
    "mark": ("\ufefftrigger: a b", "'trigger' = 'a b'"),
    "two-documents": (T + "---\n" + T, "but found another document"),
    "nothing": ("", "must hold keys"),
    "list": ("- " + "x" * 100_000, "must hold keys"),
    "regularisation-root": (T + "training: {regularisation: /}", "leads out of the character's folder, to /:"),
    "regularisation-up": (T + "training: {regularisation: ..}", "training.regularisation leads out"),
    "regularisation-proc": (T + "training: {regularisation: /proc}", "to /proc:"),
    "regularisation-itself": (T + "training: {regularisation: .}", "a folder of images of no character"),
    "kohya-folder": (
        T + "training: {preset: kohya_import, kohya_json: gifs}",
        "cannot be read: a folder, which is never opened",
    ),
    "kohya-pipe": (T + "training: {preset: kohya_import, kohya_json: pipe}", "a named pipe, which is never"),
    "kohya-root": (
        T + "training: {preset: kohya_import, kohya_json: /}",
        "the path of a file in the character's folder",
    ),
    # invisible characters, and sequences that move the cursor
    "key-ansi": (T + '"\\e[31mred": 1', "unknown key '\\x1b[31mred'"),
    "key-of-two-lines": (T + '"a\\nproblem  all is lost": 1', "unknown key 'a\\nproblem  all is lost'"),
    "trigger-ansi": ('trigger: "x\\e[31m"', "invisible characters (\\x1b)"),
    "trigger-bidi": ("trigger: x\u202ey", "invisible characters (\\u202e)"),
    "trigger-zero-width": ("trigger: x\u200by", "invisible characters (\\u200b)"),
    "trigger-surrogate": ('trigger: "x\\ud800"', "'trigger' = 'x\\ud800'"),
    "style-bidi": (T + 'style: "a\\u202eb"', "'style' = 'a\\u202eb'"),
    "profile-title": (T + 'profile: "\\e]0;mine\\a"', "invisible characters (\\x1b \\x07)"),
    "blacklist": (T + 'curation: {blacklist: ["smi\\u200ble"]}', "invisible characters (\\u200b)"),
    "inherent": (T + 'curation: {inherent: ["smi\\u200ble"]}', "invisible characters (\\u200b)"),
    "alias-key": (T + 'curation: {aliases: {"smi\\u202ele": b}}', "invisible characters (\\u202e)"),
    "alias-value": (T + 'curation: {aliases: {b: "smi\\u202ele"}}', "invisible characters (\\u202e)"),
    "weight": (T + 'curation: {weights: {"smi\\u202ele": 1}}', "invisible characters (\\u202e)"),
    "learned": (T + 'groups: {gifs: {learned: ["\\u2066x"]}}', "invisible characters (\\u2066)"),
    "group": (T + 'groups: {"gi\\u200bfs": {}}', "invisible characters (\\u200b)"),
    "prompt": (T + 'benchmark: {prompts: ["\\e[2J"]}', "invisible characters (\\x1b)"),
    "holdout": (T + 'benchmark: {holdout: ["gifs/\\u202egnp.a"]}', "invisible characters (\\u202e)"),
    "section-key": (T + 'training: {"\\e[31mred": 1}', "invisible characters (\\x1b)"),
    "section-value": (T + 'tagging: {model: "a\\u2028b"}', "invisible characters (\\u2028)"),
    "rival-trigger": (
        T + 'benchmark: {rivals: [{name: a, lora: b, trigger: "\\e[31m"}]}',
        "invisible characters (\\x1b)",
    ),
    "rival-nul": (
        T + 'benchmark: {rivals: [{name: a, lora: "a\\0b", trigger: c}]}',
        "invisible characters (\\x00)",
    ),
}

# What a rival's `lora` is -> words of the sentence about the rival; the character itself is worked on.
RIVALS = {
    "gifs": "is a folder",
    "/": "leads out of the character's folder, to /:",
    "": "leads out of the character's folder",
    "../../..": "leads out of the character's folder",
    "/dev/zero": "leads out of the character's folder",
    "/dev/null": "leads out of the character's folder",
    "/proc/self/mem": "leads out of the character's folder",
    "/proc/kmsg": "leads out of the character's folder",
    "pipe": "there is no such file",
    "nothing": "there is no such file",
    "character.yaml": "is not a safetensors file",
    "x" * 5_000: "its file cannot be read",
}


def add_character(folder: Path, settings: str | bytes) -> Path:
    """A character of one image and a named pipe."""
    (folder / "gifs").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "gifs" / "one.png")
    os.mkfifo(folder / "pipe")
    (folder / "character.yaml").write_bytes(settings if isinstance(settings, bytes) else settings.encode())
    return folder


def with_rival(lora: str) -> str:
    """Settings that name the rival `lora`."""
    return T + f"benchmark: {{rivals: [{{name: other, trigger: x, lora: {json.dumps(lora)}}}]}}\n"


def bad_files(root: Path) -> dict[str, str]:
    """Add characters whose character.yaml, or folder, is wrong; returns their names with words about each."""
    for name in ("pipe", "folder", "itself", "to-nothing", "to-zero"):
        (add_character(root / name, "") / "character.yaml").unlink()
    os.mkfifo(root / "pipe" / "character.yaml")
    (root / "folder" / "character.yaml").mkdir()
    (root / "itself" / "character.yaml").symlink_to("character.yaml")
    (root / "to-nothing" / "character.yaml").symlink_to("nothing")
    (root / "to-zero" / "character.yaml").symlink_to("/dev/zero")
    add_character(root / "hidden-group", T)
    (root / "hidden-group" / "a\x1b[31m").mkdir()
    add_character(root / "Upper\u202e", T)
    return {
        "pipe": "cannot be read: a named pipe, which is never opened",
        "folder": "cannot be read: a folder, which is never opened",
        "itself": "cannot be read: Too many levels of symbolic links",
        "to-nothing": "is missing",
        "to-zero": "is a link that leaves the folder, to /dev/zero: put the file itself there",
        "hidden-group": "the name of the folder 'a\\x1b[31m' holds invisible characters (\\x1b): rename it",
        "Upper\\u202e": "cannot be a character's name",
    }

"""Changes of character.yaml by key; all other lines stay."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sticker_pipeline.core.character import FILE_NAME, Group, Settings, describe_problems, load_character
from sticker_pipeline.core.files.limited_files import MOST_BYTES, LimitedFileError, parse_yaml
from sticker_pipeline.core.profile import ProfileError, character_profile
from sticker_pipeline.core.texts import TextError, UserError, decoded, quoted
from sticker_pipeline.desk import yaml_text
from sticker_pipeline.desk.edits import Edit, EditError, content, encoded_like

LISTS = ("curation.blacklist", "media.exclude", "benchmark.prompts")
MAPS = ("curation.aliases", "curation.weights")
SHARE = "share"  # groups.<name>.share


def edited(folder: Path, models: Path, changes: Sequence[Mapping[str, Any]]) -> Edit:
    """Return the edit of `folder`/character.yaml for `changes`, nothing written.

    Each change has `do` (add, remove, set), `key` and `value`. LISTS: entries. MAPS: set takes a mapping, remove takes
    keys. groups.<name>.share: set takes a number. Raises EditError, naming key and remedy, if the result would not be
    valid.
    """
    before = content(folder, FILE_NAME)
    if before is None:
        raise EditError(f"{folder / FILE_NAME} is gone.")
    try:
        text = decoded(before)
        groups = load_character(folder).groups
        for change in changes:
            text = _changed(text, groups, str(change.get("do")), str(change.get("key")), change.get("value"))
    except (TextError, LimitedFileError, yaml_text.YamlEditError, UserError) as error:
        raise EditError(f"{folder / FILE_NAME}: {error}. Change it with an editor.") from error
    after = encoded_like(text, before)
    _check(folder, models, after)
    return Edit(folder, FILE_NAME, before, after)


def difference(edit: Edit) -> list[str]:
    """Return the changed lines with three lines around them, as `diff -u` has them."""
    old, new = (decoded(part or b"").splitlines() for part in (edit.before, edit.after))
    return list(difflib.unified_diff(old, new, FILE_NAME, FILE_NAME, lineterm=""))


def _changed(text: str, groups: Mapping[str, Group], do: str, key: str, value: Any) -> str:
    path = key.split(".", 1)
    if not _is_plain(value):
        raise EditError(f"{do} {key}: {quoted(value)} is no value for it")
    if key in LISTS and do in ("add", "remove") and isinstance(value, list):
        return (yaml_text.add if do == "add" else yaml_text.remove)(text, path, value)
    if key in LISTS and do == "set" and isinstance(value, list):
        return _set_entries(text, path, value)
    if key in MAPS and do == "set" and isinstance(value, dict):
        for name, new in value.items():
            text = yaml_text.put(text, [*path, name], new)
        return text
    if key in MAPS and do == "remove" and isinstance(value, list):
        return yaml_text.remove(text, path, value)
    group = path[-1].removesuffix(f".{SHARE}")
    if path[0] == "groups" and path[-1].endswith(f".{SHARE}") and group in groups and do == "set":
        return yaml_text.put(_with_groups(text, groups), ["groups", group, SHARE], value)
    raise EditError(f"{do} {key} is no change that can be made here")


def _is_plain(value: Any) -> bool:
    """Tell whether `value` is plain, or a list or mapping of plain."""
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return all(isinstance(part, str | int | float) for part in parts)


def _set_entries(text: str, path: Sequence[str], wanted: list[Any]) -> str:
    """Make the list at `path` equal to `wanted`; kept entries stay."""
    known = (parse_yaml(text).get(path[0]) or {}).get(path[1]) or []
    if known == wanted:
        return text
    if wanted[: len(known)] == known:
        return yaml_text.add(text, path, wanted[len(known) :])
    kept = [entry for entry in known if entry in wanted]
    if wanted[: len(kept)] == kept:
        text = yaml_text.remove(text, path, [entry for entry in known if entry not in wanted])
        return yaml_text.add(text, path, wanted[len(kept) :])
    return yaml_text.put(text, path, wanted)


def _with_groups(text: str, groups: Mapping[str, Group]) -> str:
    """State all groups if none is: one would be alone."""
    if (parse_yaml(text) or {}).get("groups"):
        return text
    stated = {name: group.model_dump(mode="json", exclude_defaults=True) for name, group in groups.items()}
    return yaml_text.put(text, ["groups"], stated)


def _check(folder: Path, models: Path, after: bytes) -> None:
    """Raise EditError if the character would not be valid."""
    if len(after) > MOST_BYTES:
        raise EditError(f"{FILE_NAME} would have {len(after):,} bytes, and at most {MOST_BYTES:,} are read.")
    try:
        settings = Settings.model_validate(parse_yaml(decoded(after)))
        character_profile(replace(load_character(folder), settings=settings), models)
    except ValidationError as error:
        raise EditError(" ".join(describe_problems(str(folder / FILE_NAME), error, Settings))) from error
    except (LimitedFileError, ProfileError) as error:
        raise EditError(str(error)) from error

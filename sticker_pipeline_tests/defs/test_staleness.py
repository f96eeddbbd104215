"""Every setting, and the assets that its edit makes stale: the table of docs/explanation/staleness.md."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sticker_pipeline.core.character import Character, Rival, load_character
from sticker_pipeline.core.profile import OVERRIDABLE, Profile, character_profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.dagster_kit.compat import AssetGraph, asset_specs
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.restored import stale_now
from sticker_pipeline.dagster_kit.scope import USES
from sticker_pipeline.dagster_kit.staleness import is_out_of_date
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.scopes import of_character
from sticker_pipeline.roots.character import VALUES, value
from sticker_pipeline_tests.benchmarks.scripted_deployment import Deployment, script_history, scripted_deployment
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.dagster_kit.resolver import statuses

PAGE = REPOSITORY / "docs" / "explanation" / "staleness.md"
SETTINGS = (
    "trigger: skv_ada\ngroups: {gifs: {}}\nbenchmark: {rivals: [{name: x, lora: rivals/x.safetensors, trigger: x}]}\n"
    "pack: {}\n"
)
OTHERWISE: dict[str, Any] = {  # where another value has to be one of a kind
    "tagging.general_threshold": "mcut",
    "tagging.character_threshold": "mcut",
    "training.memory_budget": 10**9,
    "benchmark.rivals": [Rival(name="y", lora="rivals/y.safetensors", trigger="y")],
}


def leaves(model: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of the model that has no settings itself, by its path."""
    for name in type(model).model_fields:
        found = getattr(model, name)
        if isinstance(found, BaseModel):
            yield from leaves(found, f"{path}{name}.")
        else:
            yield f"{path}{name}", found


def other(path: str, now: Any) -> Any:
    """Return another value for a setting, as it could be."""
    if path in OTHERWISE:
        return OTHERWISE[path]
    match now:
        case bool():
            return not now
        case int() | float():
            return now + 1
        case Path():
            return now.with_name("another")
        case tuple() | list():
            return [*now, "another"]
        case dict():
            return {**now, "another": ["another"]}
        case _:
            return "another"


def edited(model: Any, path: str, new: Any) -> Any:
    """Return a copy of the model with another value at the path."""
    name, _, rest = path.partition(".")
    return model.model_copy(update={name: edited(getattr(model, name), rest, new) if rest else new})


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Character, Profile, ArtifactStore]:
    root = tmp_path_factory.mktemp("one")
    folder = root / "characters" / "ada"
    (folder / "gifs").mkdir(parents=True)
    (folder / "character.yaml").write_text(SETTINGS, encoding="utf-8")
    character = load_character(folder)
    return character, character_profile(character, REPOSITORY / "data" / "models"), ArtifactStore(root / "artifacts")


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return defs().resolve_asset_graph()


def users(graph: AssetGraph, parts: set[str]) -> str:
    """The assets that use one of the parts, in the order of making."""
    tags = {f"{USES}{part}" for part in parts}
    found = [spec for spec in asset_specs(graph, CHARACTERS) if tags & spec.tags.keys()]
    return ", ".join(f"`{spec.key.path[-1]}`" for spec in found) or "nothing"


def table(graph: AssetGraph, character: Character, profile: Profile, store: ArtifactStore) -> dict[str, set[str]]:
    """Assets -> the settings that make just these stale."""

    def values(who: Character, own: Profile) -> dict[str, Any]:
        return {part: value(part, who, own, store) for part in VALUES}

    before, found = values(character, profile), dict[str, set[str]]()

    def note(path: str, after: dict[str, Any]) -> None:
        parts = {part for part in VALUES if after[part] != before[part]}
        found.setdefault(users(graph, parts), set()).add(f"`{path}`")

    for path, now in leaves(profile):
        if path != "name":
            note(path, values(character, edited(profile, path, other(path, now))))
    settings = character.settings
    for path, now in leaves(settings):
        if path.partition(".")[0] not in {"groups", "profile", "style", *OVERRIDABLE}:
            changed = replace(character, settings=edited(settings, path, other(path, now)))
            note(path, values(changed, profile))
    for path, now in leaves(character.groups["gifs"]):
        group = {"gifs": edited(character.groups["gifs"], path, "art" if path == "medium" else other(path, now))}
        note(f"groups.….{path}", values(replace(character, groups=group), profile))
    return found


def page(known: set[str]) -> dict[str, set[str]]:
    """Return the rows of the page. `training.*` is all of `training` that no other row names."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    found = {assets: set(re.findall("`[^`]+`", settings)) for assets, settings in rows if "`" in settings}
    rest = known - {setting for settings in found.values() for setting in settings}
    for settings in found.values():
        for section in [setting for setting in settings if setting.endswith(".*`")]:
            settings.remove(section)
            settings |= {setting for setting in rest if setting.startswith(section[:-2])}
    return found


def test_the_page_says_what_each_setting_makes_stale(
    graph: AssetGraph, one: tuple[Character, Profile, ArtifactStore]
) -> None:
    expected = table(graph, *one)
    assert page({setting for settings in expected.values() for setting in settings}) == expected


EDITS = {
    "media.max_frames": "media: {max_frames: 100}",
    "media.crop": "media: {crop: alpha}",
    "sampling.mode": "sampling: {mode: uniform}",
    "groups.….share": "groups: {stickers: {share: 2.0}}",
    "groups.….medium": "groups: {stickers: {medium: art}}",
    "groups.….learned": "groups: {stickers: {learned: [a_b]}}",
    "tagging.general_threshold": "tagging: {general_threshold: 0.6}",
    "curation.min_images": "curation: {min_images: 3}",
    "benchmark.holdout": "benchmark: {holdout: 0.3}",
    "training.epochs": "training: {epochs: 3}",
    "training.samples_per_epoch": "training: {samples_per_epoch: 64}",
    "benchmark.prompts": "benchmark: {prompts: [with a hat]}",
    "benchmark.patience": "benchmark: {patience: 5}",
    "benchmark.rivals": "benchmark: {rivals: [{name: x, lora: rivals/x.safetensors, trigger: x}]}",
    "benchmark.gate.gain": "benchmark: {gate: {gain: 0.5}}",
    "benchmark.gate.copies": "benchmark: {gate: {copies: 0.5}}",
    "benchmark.gate.unmeasured": "benchmark: {gate: {unmeasured: release}}",
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STICKER_PROFILE", raising=False)
        made = scripted_deployment(tmp_path_factory.mktemp("deployment"), defs(), 1)
        made.instance.add_dynamic_partitions(str(CHARACTERS.name), ["c0000"])
        script_history(made, defs())
        yield made


@pytest.mark.parametrize("setting", EDITS)
def test_the_ui_shows_as_stale_what_the_page_says(deployment: Deployment, graph: AssetGraph, setting: str) -> None:
    """Of coarse roots, nothing else; `update` and the automation find the same; an edit undone leaves nothing."""
    path = deployment.workspace.characters_folder / "c0000" / "character.yaml"
    before = path.read_text(encoding="utf-8")
    made = [
        spec.key
        for spec in asset_specs(graph, CHARACTERS)
        if deployment.workspace.store.find("c0000", spec.key.path[-1])
    ]

    def shown() -> list[str]:
        scope = of_character(deployment.workspace, "c0000")
        found = stale_now(History(deployment.instance, graph), made, scope, deployment.workspace.store)
        by_dagster = statuses(deployment.instance, graph, made, "c0000")
        history = History(deployment.instance, graph)
        assert {key for key in made if is_out_of_date(history, key, "c0000")} <= {*found}
        by_rule = {key.path[-1] for key in made if is_out_of_date(history, key, "c0000")}
        assert by_rule == {name for name, status in by_dagster.items() if status == "STALE"}
        return [f"`{name}`" for name in by_dagster if name in by_rule]

    assert shown() == []
    kept = "" if EDITS[setting].startswith("groups") else "groups: {stickers: {}}\n"
    path.write_text(f"trigger: c0000_x\n{kept}{EDITS[setting]}\n", encoding="utf-8")
    (expected,) = [assets for assets, settings in page({f"`{setting}`"}).items() if f"`{setting}`" in settings]
    assert shown() == [name for name in expected.split(", ") if name.strip("`") in {key.path[-1] for key in made}]
    path.write_text(before, encoding="utf-8")
    assert shown() == []

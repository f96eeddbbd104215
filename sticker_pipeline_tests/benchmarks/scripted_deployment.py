"""A deployment of characters with one image each and all assets made: scripted, without work.

Artifacts hold a few bytes. Manifests, and the events in Dagster's history, are as the steps would leave them.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.events import DagsterEvent, DagsterEventType
from PIL import Image

from sticker_pipeline.core.storage import ALL, MANIFEST, ArtifactStore, content_hash
from sticker_pipeline.dagster_kit.compat import asset_specs
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.restored import observe_and_restore, versions_now
from sticker_pipeline.dagster_kit.scope import Scope, Values
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import OneCharacter, of_all, of_character
from sticker_pipeline.roots.across import AllCharacters
from sticker_pipeline_tests.conftest import REPOSITORY

LORA = b"scripted"
RUN = "scripted"  # the run that made everything


@dataclass
class Deployment:
    """Characters on a disk, what was made of them, and Dagster's history of it; `cursor` is the folder sensor's."""

    instance: dg.DagsterInstance
    workspace: Workspace
    cursor: str | None = None

    def add_image(self, name: str) -> None:
        _image(self.workspace.characters_folder / name / "stickers" / "new.png", 9)


def scripted_deployment(root: Path, world: dg.Definitions, count: int) -> Deployment:
    """A deployment of `count` characters, c0000 and so on, that has files, artifacts and partitions, and no history."""
    models = str(REPOSITORY / "data" / "models")
    workspace = Workspace(characters=str(root / "characters"), artifacts=str(root / "artifacts"), models=models)
    names = [f"c{number:04}" for number in range(count)]
    for number, name in enumerate(names):
        folder = workspace.characters_folder / name
        _image(folder / "stickers" / "one.png", number)
        (folder / "character.yaml").write_text(f"trigger: {name}_x\ngroups: {{stickers: {{}}}}\n", encoding="utf-8")
    for asset in _made(world, "character_line"):
        for name in names:
            _artifact(workspace.store.folder(name, asset.path[-1]), asset, world)
    for asset in _made(world, "leaderboard_table"):
        _artifact(workspace.store.folder(ALL, asset.path[-1]), asset, world)
    (root / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(root / "dagster"))
    return Deployment(instance, workspace)


def script_history(deployment: Deployment, world: dg.Definitions) -> None:
    """Note in every manifest, and in Dagster's history, that all was made from what there is now."""
    workspace = deployment.workspace
    valid, problems = workspace.valid_characters()
    graph = world.resolve_asset_graph()
    line = {*_made(world, "character_line"), *_made(world, "leaderboard_table")}
    history = History(deployment.instance, graph)
    scopes = [
        *(of_character(workspace, character.name).loaded(OneCharacter(character, own)) for character, own in valid),
        of_all(workspace).loaded(AllCharacters(valid, problems)),
    ]
    for scope in scopes:
        store = workspace.store.snapshot()
        specs = [spec for spec in asset_specs(graph, scope.partitions) if spec.key in line]
        values = scope.values(store)
        for spec in specs:
            _note(workspace.store.folder(scope.place, spec.key.path[-1]), spec, scope, store, values)
        observe_and_restore(history, specs, scope, workspace.store.snapshot(), values)
    for asset in line:
        _pass_checks(deployment, world, asset)


def _note(folder: Path, spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values) -> None:
    """Write what the asset would be made from now into its manifest."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    inputs = {
        name: of for dep in spec.deps for name, of in versions_now(spec, dep.asset_key, scope, store, values).items()
    }
    (folder / MANIFEST).write_text(json.dumps(manifest | {"inputs": inputs}), encoding="utf-8")


def _made(world: dg.Definitions, job: str) -> list[dg.AssetKey]:
    graph = world.resolve_job_def(job).asset_layer.asset_graph
    return [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]


def _image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(path)


def _artifact(folder: Path, asset: dg.AssetKey, world: dg.Definitions) -> None:
    """An artifact with the files that roots ask for."""
    folder.mkdir(parents=True)
    name = f"{folder.parent.name}.safetensors" if asset.path[-1] == "released_lora" else "lora.safetensors"
    (folder / name).write_bytes(LORA)
    entry = {"bytes": len(LORA), "sha256": hashlib.sha256(LORA).hexdigest()}
    version = world.resolve_assets_def(asset).get_asset_spec(asset).code_version
    manifest = {
        "asset": asset.path[-1],
        "code_version": version,
        "data_version": content_hash([asset.path[-1], folder.parent.name]),
        "inputs": {},
        "settings": {},
        "files": {name: entry},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _pass_checks(deployment: Deployment, world: dg.Definitions, asset: dg.AssetKey) -> None:
    """Note that the blocking checks of `asset` have passed, of every character."""
    graph = world.resolve_asset_graph()
    instance = deployment.instance
    made = instance.event_log_storage.get_latest_storage_id_by_partition(asset, DagsterEventType.ASSET_MATERIALIZATION)
    for check in graph.get_check_keys_for_assets({asset}):
        if not graph.get(check).blocking:
            continue
        for name, event in made.items():
            target = AssetCheckEvaluationTargetMaterializationData(storage_id=event, run_id=RUN, timestamp=0.0)
            verdict = AssetCheckEvaluation(
                asset, check.name, True, target_materialization_data=target, blocking=True, partition=name
            )
            kind = DagsterEventType.ASSET_CHECK_EVALUATION.value
            instance.report_dagster_event(DagsterEvent(kind, job_name=RUN, event_specific_data=verdict), RUN)

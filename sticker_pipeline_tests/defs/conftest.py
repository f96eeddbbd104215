"""A small workspace: a demo character's files, the embedded models, a short training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from rich.console import Console

from sticker_pipeline.cli.update import update
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore, artifact_of
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.metadata import COLUMN_SCHEMA, PARTITION_ROW_COUNT, ROW_COUNT
from sticker_pipeline.dagster_kit.restored import stale_now
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import Workspace, workspace_from_environment
from sticker_pipeline.defs.scopes import of_character
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.tables_page import tables_of

SETTINGS = """\
trigger: skv_small
groups:
  gifs: {learned: [small_sticker]}
  stickers: {learned: [small_sticker], share: 2.0}
  art: {medium: art}
training: {epochs: 2, samples_per_epoch: 96, rank: 16}
benchmark: {holdout: 0.3, prompts: ["angry, arms up"], gate: {one_source: 1.0, gain: 0.0}}
"""


@dataclass(frozen=True)
class Bench:
    """A workspace on a temporary folder, and what tests do with it."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    workspace: Workspace

    @property
    def store(self) -> ArtifactStore:
        return self.workspace.store

    def folder(self, name: str) -> Path:
        return Path(self.workspace.characters) / name

    def add_character(self, name: str, demo: str, settings: str = SETTINGS) -> Path:
        """A few files of the demo character `demo`."""
        add_small_character(self.folder(name), demo, settings)
        return self.folder(name)

    def character(self, name: str) -> tuple[Character, Profile]:
        character = self.workspace.character(name)
        return character, self.workspace.profile(character)

    def stale(self, name: str, job: str = "character_line") -> list[str]:
        graph = self.definitions.resolve_job_def(job).asset_layer.asset_graph
        assets = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
        history = History(self.instance, self.definitions.resolve_asset_graph())
        return [key.path[-1] for key in stale_now(history, assets, of_character(self.workspace, name), self.store)]

    def update(self, *names: str) -> bool:
        """Return whether nothing failed.

        A gate that refuses the LoRA, trained for seconds, is no failure.
        """
        characters = [self.character(name) for name in names]
        return not update(self.definitions, self.instance, self.workspace, characters, Console(quiet=True)).failed

    def metadata(self, asset: str, partition: str | None) -> dict[str, object]:
        """The metadata of the latest materialization, as plain values."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                dg.AssetKey.from_user_string(asset), asset_partitions=[partition] if partition else None
            ),
            limit=1,
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {key: value.value for key, value in materialization.metadata.items()}

    def check_tables(self, asset: str, scope: str, partition: str | None) -> None:
        """Check that the asset declares and reports each table of the artifact.

        A table has the declared columns.
        """
        key = dg.AssetKey.from_user_string(asset)
        artifact = self.store.read(scope, artifact_of(asset))
        spec = self.definitions.resolve_assets_def(key).get_asset_spec(key)
        tables = list(tables_of(spec))
        assert {file for file, _, _ in tables} == {name for name in artifact.files if name.endswith(".parquet")}, asset
        for file, _, schema in tables:
            assert types_of(artifact.table(file)) == declared(schema, artifact.table(file)), (asset, file)
        shown, first = self.metadata(asset, partition), artifact.table(tables[0][0])
        counted = PARTITION_ROW_COUNT if partition else ROW_COUNT
        assert {ROW_COUNT, PARTITION_ROW_COUNT} & shown.keys() == {counted} and shown[counted] == len(first), asset
        reported = shown[COLUMN_SCHEMA]
        assert isinstance(reported, dg.TableSchema)
        assert [(column.name, column.type) for column in reported.columns] == types_of(first), asset
        assert all(column.description for column in reported.columns), asset


def types_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(name, type) of each column."""
    return [(str(name), str(dtype)) for name, dtype in rows.dtypes.items()]


def declared(schema: dg.TableSchema, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The expected `types_of(rows)`.

    A name such as `<character>` stands for all columns that have no other.
    """
    known = {column.name for column in schema.columns}
    further = [str(name) for name in rows.columns if name not in known]
    return [
        (name, column.type)
        for column in schema.columns
        for name in (further if column.name.startswith("<") else [column.name])
    ]


@pytest.fixture(scope="module")
def models() -> Path:
    """The folder of base models, taggers and CLIPs.

    A module that needs others has a fixture of this name.
    """
    return REPOSITORY / "data" / "models"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("workspace")
    for name in ("characters", "dagster"):
        (root / name).mkdir()
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.local_temp(str(root / "dagster")) as instance:
        patch.setenv("STICKER_CHARACTERS", str(root / "characters"))
        patch.setenv("STICKER_ARTIFACTS", str(root / "artifacts"))
        patch.setenv("STICKER_MODELS", str(models))
        patch.delenv("STICKER_PROFILE", raising=False)
        yield Bench(defs(), instance, workspace_from_environment())

"""Packs are opt-in: made by automation with `pack:`, else on request."""

from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import AutomationCondition as On

from sticker_pipeline.core.character import FILE_NAME, CharacterError, allowed_links, read_settings
from sticker_pipeline.core.texts import listed
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.compat import selected_assets
from sticker_pipeline.defs.automation import IDLE, NOT_REQUESTED_SINCE, AboveOutOfDate, OutOfDate
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace, workspace_from_environment
from sticker_pipeline.defs.scopes import CHARACTER_ROOTS, PACK_ASSETS

Make = Callable[..., dg.MaterializeResult]


class AskedFor(dg.AutomationCondition):
    """True for characters with `pack:` in character.yaml."""

    @property
    def name(self) -> str:
        return "asked_for_a_pack"

    @property
    def description(self) -> str:
        return "character.yaml has `pack:`"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        folder = workspace_from_environment().characters_folder
        asking = {name for name in compat.candidate_names(context) if asks(folder / name)}
        return compat.true_of_names(context, CHARACTERS, asking)


def asks(folder: Path) -> bool:
    """Tell whether the character in `folder` asks for a pack.

    False if it is invalid.
    """
    try:
        status = (folder / FILE_NAME).stat()
        return _asks(folder, status.st_mtime_ns, status.st_size)
    except (OSError, CharacterError):
        return False


@lru_cache(maxsize=10_000)
def _asks(folder: Path, mtime_ns: int, size: int) -> bool:
    """Return `asks` of the file with this time and size.

    Errors, which may have causes elsewhere, are not kept.
    """
    return read_settings(folder / FILE_NAME, (folder, *allowed_links(folder))).pack is not None


def asked_for(make: Make) -> Callable[..., Iterator[dg.MaterializeResult]]:
    """Decorate an asset's function to skip what nobody asked for.

    A launch of packs alone asks for them, as `pack:` does. The asset needs `output_required=False`.
    """

    @wraps(make)
    def step(context: dg.AssetExecutionContext, workspace: Workspace, **named: Any) -> Iterator[dg.MaterializeResult]:
        others = sorted(key.to_user_string() for key in selected_assets(context) if key not in PACK_ASSETS)
        if others and not asks(workspace.characters_folder / context.partition_key):
            context.log.info(
                f"{context.asset_key.to_user_string()} is not made with {listed(others)}: character.yaml of "
                f"{context.partition_key} has no `pack:`. Materialize the pack alone, or add that line."
            )
            return
        yield make(context, workspace=workspace, **named)

    return step


_release_and_roots = dg.AssetSelection.assets("released_lora", *(root.key for root in CHARACTER_ROOTS))
_all_but_dataset = _release_and_roots | dg.AssetSelection.assets("pack_candidates")
_is_settled = ~On.any_deps_match(OutOfDate()).ignore(_release_and_roots) & ~On.any_deps_match(AboveOutOfDate()).ignore(
    _all_but_dataset
)

WHEN_ASKED_FOR = (
    OutOfDate() & AskedFor() & _is_settled.with_label("dataset_is_settled") & IDLE & NOT_REQUESTED_SINCE
).with_label("when_asked_for")
"""As soon as its inputs have changed and the dataset is settled, for characters with `pack:`.

Also without a release, and while a LoRA waits for its night: a pack of own stickers needs none.
"""

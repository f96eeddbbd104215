"""Jobs: selections of assets that a person starts together."""

import dagster as dg

from sticker_pipeline.defs.partitions import CHARACTERS, STYLES
from sticker_pipeline.defs.scopes import (
    OF_ALL,
    ON_REQUEST,
    PACK_ASSETS,
    SELECTED_STYLE_LORA,
    STYLE_LORA,
    STYLE_TRAINING_SET,
)

ACROSS = dg.AssetSelection.assets(*OF_ALL)
BY_THEMSELVES = dg.AssetSelection.assets(*ON_REQUEST, *PACK_ASSETS)

dataset_line = dg.define_asset_job(
    "dataset_line",
    selection=dg.AssetSelection.assets("training_set").upstream() & dg.AssetSelection.assets("raw_media").downstream(),
    partitions_def=CHARACTERS,
    description="One character, from its files to its captions and training set: look at them before you train.",
)
character_line = dg.define_asset_job(
    "character_line",
    selection=dg.AssetSelection.assets("raw_media").downstream() - ACROSS - BY_THEMSELVES,
    partitions_def=CHARACTERS,
    description="One character, from its files to its benchmark table.",
)
style_line = dg.define_asset_job(
    "style_line",
    selection=dg.AssetSelection.assets(STYLE_TRAINING_SET, STYLE_LORA, SELECTED_STYLE_LORA),
    partitions_def=STYLES,
    description="One style, from the datasets of the characters that share it to its LoRA.",
)
pack_line = dg.define_asset_job(
    "pack_line",
    selection=dg.AssetSelection.assets(*PACK_ASSETS),
    partitions_def=CHARACTERS,
    description="One character's sticker pack, from its release and its own stickers; also without `pack:`.",
)
compare_sampling_settings = dg.define_asset_job(
    "compare_sampling_settings",
    selection=dg.AssetSelection.assets("sampling_grid"),
    partitions_def=CHARACTERS,
    description="One character's LoRA with other weights, steps and guidance: to choose sampling settings.",
)
leaderboard_table = dg.define_asset_job(
    "leaderboard_table",
    selection=ACROSS,
    description="All characters' benchmark tables side by side, and the report.",
)

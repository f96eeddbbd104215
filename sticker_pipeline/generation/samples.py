"""Table of images generated for the benchmark's prompts."""

from dataclasses import replace

from sticker_pipeline.core.schemas import Column, TableSchema

SAMPLES = TableSchema(
    "each image",
    (
        Column("image", "str", "names the image: its folder and number"),
        Column("model", "str", "its model: base, lora, lora in a recommended setting, released, or a rival"),
        Column("medium", "str", "the prompt's medium, such as art or sticker"),
        Column("prompt", "str", "the whole prompt, with the model's trigger and learned tags"),
        Column("attributes", "str", "the free part of the prompt: the same for all models"),
        Column("seed", "int64", "of the noise: the same for all models", low=0),
        Column("file", "str", "its PNG file in this artifact"),
    ),
    key=("file",),
)
WITHOUT_TRIGGER = replace(
    SAMPLES, rows="each image of each LoRA generated without its trigger", file="without_trigger.parquet"
)

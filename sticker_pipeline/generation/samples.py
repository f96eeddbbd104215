"""Table of images generated for the benchmark's prompts.

The models are chosen in `defs/benchmark/samples.py`.
"""

from dataclasses import replace

from sticker_pipeline.core.schemas import Column, TableSchema

SAMPLES = TableSchema(
    "each image",
    (
        Column("image", "str", "names the image: its folder and number"),
        Column("model", "str", "who drew it: base, lora, lora in a recommended setting, released, or a rival"),
        Column("medium", "str", "the medium that was asked for, such as art or sticker"),
        Column("prompt", "str", "the whole prompt, with the words that the model was taught"),
        Column("attributes", "str", "the free part of the prompt: the same for all models"),
        Column("seed", "int64", "of the noise: the same for all models", low=0),
        Column("file", "str", "its PNG file in this artifact"),
    ),
    key=("file",),
)
WITHOUT_TRIGGER = replace(
    SAMPLES, rows="each image of each LoRA that was asked without its trigger", file="without_trigger.parquet"
)

import json

import pytest

from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.metadata import lora_metadata, tag_frequency
from sticker_pipeline_tests.training.conftest import SpecMaker


def test_metadata_say_what_clients_ask_for(make_spec: SpecMaker) -> None:
    spec = make_spec()
    table = read_training_set(spec)
    metadata = lora_metadata(
        spec, table, prediction_type="epsilon", epoch=1, step=3, total_steps=6, mixed_precision="no"
    )
    assert (
        metadata.items()
        >= {
            "ss_base_model_version": "sd_v1",
            "ss_network_module": "networks.lora",
            "ss_network_dim": "4",
            "ss_network_alpha": "2.0",
            "ss_resolution": "(32, 32)",
            "ss_clip_skip": "None",
            "ss_unet_lr": "0.001",
            "ss_seed": "0",
            "ss_steps": "3",
            "ss_max_train_steps": "6",
            "ss_epoch": "1",
            "ss_output_name": "nova",
            "modelspec.architecture": "stable-diffusion-v1/lora",
            "modelspec.prediction_type": "epsilon",
            "modelspec.trigger_phrase": "nova_tag",
        }.items()
    )
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata["ss_dataset_dirs"]) == {"1_nova": {"n_repeats": 1, "img_count": 8}}
    assert json.loads(metadata["ss_bucket_info"]) == {"buckets": {"0": {"resolution": [32, 32], "count": 8}}}
    assert str(spec.output) not in str(metadata) and str(spec.base.parent) not in str(metadata)


@pytest.mark.parametrize(
    ("schedule", "name"), [("restarts", "cosine_with_restarts"), ("constant", "constant_with_warmup")]
)
def test_metadata_name_the_schedule_as_sd_scripts_does(make_spec: SpecMaker, schedule: str, name: str) -> None:
    spec = make_spec(settings={"schedule": schedule})
    metadata = lora_metadata(
        spec, read_training_set(spec), prediction_type="epsilon", epoch=1, step=3, total_steps=6, mixed_precision="no"
    )
    assert metadata["ss_lr_scheduler"] == name


def test_tag_frequency_counts_pictures(make_spec: SpecMaker) -> None:
    table = read_training_set(make_spec())  # pictures 0, 2, 6, 8 are art and 1, 3, 5, 7 stickers
    assert tag_frequency(table) == {"nova_tag": 8, "angry": 4, "art": 4, "smile": 4, "sticker": 4}
    assert list(tag_frequency(table)) == ["nova_tag", "angry", "art", "smile", "sticker"]

"""Identity of a base model: all that affects its images."""

import json
from hashlib import sha256
from pathlib import Path

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.roots.hashes import base_hash, file_hash


def test_configurations_beside_a_single_file_are_part_of_its_hash(tmp_path: Path) -> None:
    store, base = ArtifactStore(tmp_path / "artifacts"), tmp_path / "base.safetensors"
    base.write_bytes(b"weights")
    own = sha256(b"weights").hexdigest()
    assert base_hash(base, store) == own
    config = tmp_path / "base" / "scheduler" / "scheduler_config.json"
    config.parent.mkdir(parents=True)
    found = set()
    for prediction in ("epsilon", "v_prediction"):
        config.write_text(json.dumps({"prediction_type": prediction}))
        found.add(base_hash(base, store))
    assert len(found | {own}) == 3
    assert file_hash(base, store) == own  # by which A1111 knows the file


def test_every_file_of_a_folder_is_part_of_its_hash(tmp_path: Path) -> None:
    store, folder = ArtifactStore(tmp_path / "artifacts"), tmp_path / "base"
    assert base_hash(folder, store) == "missing"
    found = {"missing"}
    for name in (
        "unet/model.safetensors",
        "vae/config.json",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
        found.add(base_hash(folder, store))
    assert len(found) == 5

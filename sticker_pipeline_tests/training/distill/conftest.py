"""A distillation that takes seconds: a random base model, six images, and specs over them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.training.distill.spec import ConsistencySpec

WORDS = ["smile", "angry", "crying", "waving", "blue dress", "red hair"]
ConsistencySpecMaker = Callable[..., ConsistencySpec]


@pytest.fixture
def make_consistency_spec(tmp_path: Path, tiny_base: Path) -> ConsistencySpecMaker:
    """A function that makes specs; keywords replace values, also of `settings`."""

    def make(*, settings: dict[str, Any] | None = None, **changes: Any) -> ConsistencySpec:
        values: dict[str, Any] = {
            "name": "lcm-tiny",
            "base": tiny_base,
            "base_sha": "ab12",
            "output": tmp_path / "out",
            "resolution": 32,
            "prompts": WORDS,
            "settings": {
                "words": [WORDS],
                "images": len(WORDS),
                "rank": 4,
                "alpha": 4.0,
                "steps": 6,
                "batch_size": 2,
                "learning_rate": 1e-3,
                **(settings or {}),
            },
            "generation": {"steps": 2, "guidance_scale": 3.0, "batch_size": 4, "negative_prompt": "art"},
            **changes,
        }
        return ConsistencySpec.model_validate(values)

    return make

"""Each optimizer is read from a file under each of kohya's names for it."""

from pathlib import Path

import pytest

from sticker_pipeline.core.kohya_settings.form import KohyaSettingsError
from sticker_pipeline.core.optimizer_table import OPTIMIZERS
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline_tests.core.kohya_settings.files import line, read


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_read_under_its_names(tmp_path: Path, name: str) -> None:
    row = OPTIMIZERS[name]
    fixed = {argument: ours for argument, (default, ours) in row.fixed.items() if ours != default}
    for called in row.kohya:
        arguments = {**fixed, **({"relative_step": False} if row.scheduled else {}), "weight_decay": 0.25}
        data = {
            "optimizer": called,
            "optimizer_args": " ".join(f"{argument}={value}" for argument, value in arguments.items()),
            "unet_lr": 0.5,
            "text_encoder_lr": 0.5,
        }
        imported = read(tmp_path, data)
        assert line(imported, "optimizer").verdict == line(imported, "optimizer_args").verdict == "taken over"
        defaults = {setting: argument.default for setting, argument in row.arguments.items()}
        expected = {**defaults, "optimizer": name, "weight_decay": 0.25, "learning_rate_unet": 0.5}
        assert imported.training.items() >= expected.items()
        assert TrainingSettings.model_validate(imported.training).optimizer == name
        for argument in fixed:
            with pytest.raises(KohyaSettingsError, match=f"{argument} is .* in sd-scripts, and {fixed[argument]} here"):
                read(tmp_path, {**data, "optimizer_args": ""})

"""Other people's base models: no code of the folder runs, no network request, each oddity is one sentence."""

import json
import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.diffusion.base_model import BaseModelError, check_base, open_base

Change = Callable[[Path], object]
INDEX, UNET, TEXT, VAE = "model_index.json", "unet/config.json", "text_encoder/config.json", "vae/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
DEEP = '{"_class_name": "UNet2DConditionModel", "a": ' + "[" * 100_000 + "]" * 100_000 + "}"
CODE = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
class Evil:
    @classmethod
    def from_pretrained(cls, *args, **options):
        return cls()
    from_config = from_pretrained
UNet2DConditionModel = StableDiffusionPipeline = CLIPTextModel = CLIPTokenizer = AutoencoderKL = DDIMScheduler = Evil
"""


class Touch:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def edited(name: str, **changes: Any) -> Change:
    def change(base: Path) -> None:
        path = base / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def written(name: str, text: str) -> Change:
    return lambda base: (base / name).write_text(text)


def sharded(weight_map: Any) -> Change:
    def change(base: Path) -> None:
        path = base / "unet" / "diffusion_pytorch_model.safetensors"
        path.rename(base.parent / "outside.safetensors")
        path.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


def only_pickles(base: Path) -> None:
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()


@pytest.fixture
def base(embedded_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model with code and pickles of a stranger beside every part, in the folder that is worked in."""
    folder = Path(shutil.copytree(embedded_models / "base", tmp_path / "base"))
    code = CODE.format(mark=str(tmp_path / "mark"))
    for name in ("evil", "pipeline", "unet", "text_encoder", "tokenizer", "scheduler", "vae"):
        for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
            (place / f"{name}.py").write_text(code)
    for name in ("unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin", "safety_checker.bin"):
        (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "mark")))

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.chdir(folder)
    return folder


def opened(base: Path) -> Any:
    check_base(base, "sd15")
    return open_base(base, "sd15", torch.float32, torch.float32)


MEANINGLESS: dict[str, Change] = {
    "nothing": lambda base: None,
    "auto_map of an encoder": edited(
        TEXT, auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}, model_type="evil", trust_remote_code=True
    ),
    "architectures": edited(TEXT, architectures=["Evil"]),
    "the name of a model on the hub": edited(TEXT, _name_or_path="evil/model"),
    "a newer diffusers": edited(UNET, _name_or_path="evil/model", _diffusers_version="99.0"),
    "auto_map of the U-Net": edited(UNET, auto_map={"AutoModel": "evil.Evil"}),
    "a tokenizer of its own": edited(
        TOKENIZER, tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}, trust_remote_code=True
    ),
    "a tokenizer on the hub": edited(TOKENIZER, name_or_path="evil/model", _name_or_path="evil/model"),
    "files of a tokenizer elsewhere": edited(TOKENIZER, vocab_file="/etc/passwd", tokenizer_file="/etc/passwd"),
    "a template": written("tokenizer/chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    "a scheduler's class": edited(SCHEDULER, _class_name="os.system"),
    "one more part": edited(INDEX, extra="evil"),
}


@pytest.mark.parametrize("change", MEANINGLESS.values(), ids=MEANINGLESS)
def test_what_would_name_code_is_passed_over(change: Change, base: Path, tmp_path: Path) -> None:
    change(base)
    pipeline = opened(base)
    for part in (pipeline.unet, pipeline.vae, pipeline.scheduler, pipeline.text_encoder, pipeline.tokenizer):
        assert type(part).__module__.partition(".")[0] in ("diffusers", "transformers")
    assert not (tmp_path / "mark").exists()


NEVER_RUN = "and code of a model's folder is never run. Use"
REFUSED: dict[str, tuple[Change, str]] = {
    "a pipeline of its own": (edited(INDEX, _class_name=["pipeline", "Evil"]), NEVER_RUN),
    "a U-Net of its own": (edited(INDEX, unet=["unet", "UNet2DConditionModel"]), f"'unet' from 'unet', {NEVER_RUN}"),
    "a tokenizer's module": (edited(INDEX, tokenizer=["tokenizer", "CLIPTokenizer"]), NEVER_RUN),
    "os.system": (edited(INDEX, scheduler=["os", "system"]), f"takes 'scheduler' from 'os', {NEVER_RUN}"),
    "a dotted module": (edited(INDEX, scheduler=["scheduler.evil", "DDIMScheduler"]), NEVER_RUN),
    "one more part of its own": (edited(INDEX, extra=["evil", "Evil"]), NEVER_RUN),
    "a checker of its own": (edited(INDEX, safety_checker=["evil", "Evil"]), NEVER_RUN),
    "numbers": (edited(INDEX, unet=[1, 2]), "names no library and class for 'unet'"),
    "a list of classes": (edited(INDEX, scheduler=["diffusers", ["A"]]), "names no library and class for 'scheduler'"),
    "a short entry": (edited(INDEX, scheduler=["diffusers"]), "names no library and class for 'scheduler'"),
    "a scheduler that is text": (edited(INDEX, scheduler="x"), "cannot be opened ("),
    "an unknown scheduler": (edited(INDEX, scheduler=["diffusers", "Nope"]), "cannot be opened ("),
    "a scheduler that is a model": (edited(INDEX, scheduler=["diffusers", "AutoencoderKL"]), "cannot be opened ("),
    "an unknown dtype": (edited(TEXT, torch_dtype="os.system", dtype="evil"), "cannot be opened ("),
    "an unknown activation": (edited(TEXT, hidden_act="os.system"), "cannot be opened ("),
    "blocks that are none": (edited(UNET, down_block_types=["evil.Evil"] * 4), "cannot be opened ("),
    "attention from the hub": (edited(TEXT, _attn_implementation="evil/kernel"), "which is code from the hub."),
    "a LoRA of another model": (
        written("text_encoder/adapter_config.json", '{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}'),
        "would load a LoRA of another model with this one.",
    ),
    "a huge U-Net": (edited(UNET, block_out_channels=[10**9] * 2), "and its weights have no such side"),
    "a huge VAE": (edited(VAE, block_out_channels=[10**8] * 4), "and its weights have no such side"),
    "a huge vocabulary": (edited(TEXT, vocab_size=10**12), "and its weights have no such side"),
    "many layers": (edited(TEXT, num_hidden_layers=10**9), "no such model has so many."),
    "channels in words": (edited(UNET, block_out_channels="x"), "cannot be opened ("),
    "many timesteps": (edited(SCHEDULER, num_train_timesteps=10**12), "which is no number from 1 to 100000."),
    "timesteps in words": (edited(SCHEDULER, num_train_timesteps="x"), "which is no number from 1 to 100000."),
    "NaN": (edited(SCHEDULER, beta_start=float("nan")), "has an invalid number (NaN or infinity)."),
    "a scale of NaN": (edited(VAE, scaling_factor=float("nan")), "has an invalid number (NaN or infinity)."),
    "a scale of text": (edited(VAE, scaling_factor="x"), "scaling_factor 'x', which is no number above 0."),
    "spacing in a list": (edited(SCHEDULER, timestep_spacing=[1]), "timestep_spacing [1], which is no text."),
    "predictions in a list": (edited(SCHEDULER, prediction_type=["v"]), "prediction type ['v'] is none of"),
    "a deep configuration": (written(UNET, DEEP), "is not JSON (it is nested too deep)."),
    "a deep tokenizer": (written("tokenizer/tokenizer.json", "[" * 100_000), "cannot be opened ("),
    "a deep scheduler": (written(SCHEDULER, "[" * 100_000), "is not JSON (it is nested too deep)."),
    "only pickles": (only_pickles, "has no diffusion_pytorch_model.safetensors"),
    "weights elsewhere": (sharded({"a": "../../outside.safetensors"}), "no weight_map of files in this folder."),
    "weights in a list": (sharded({"a": ["x"]}), "has no weight_map of files in this folder."),
    "weights that are text": (sharded("x"), "has no weight_map of files in this folder."),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_one_sentence(change: Change, words: str, base: Path, tmp_path: Path) -> None:
    change(base)
    with pytest.raises(BaseModelError) as error:
        opened(base)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(base)) and len(str(error.value)) < 800
    assert not (tmp_path / "mark").exists()

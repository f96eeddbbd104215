"""Scale of files without a tensor for alpha: as peft and diffusers apply it, and refusals."""

import json
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file

from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError
from sticker_pipeline.diffusion.lora.formats import lora_hash, read_any_lora
from sticker_pipeline.diffusion.lora.scale import is_named, parsed_name
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl

PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
KEY = f"lora_unet_{PATH.replace('.', '_')}"
MATRICES = {f"{PATH}.lora_A.weight": torch.ones(4, 8), f"{PATH}.lora_B.weight": torch.ones(6, 4)}
UNET_TARGETS = ["to_q", "to_out.0", "conv1", "conv_in", "time_embedding.linear_1"]
TEXT_TARGETS = ["q_proj", "k_proj", "fc1"]


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (build_tiny_pipeline if family == "sd15" else build_tiny_sdxl)(tmp_path_factory.mktemp("base"))


def opened(base: Path, family: str) -> Any:
    import diffusers

    return getattr(diffusers, FAMILIES[family].pipeline).from_pretrained(base, local_files_only=True)


def parts(family: str) -> list[str]:
    return ["unet", *(encoder.folder for encoder in FAMILIES[family].text_encoders)]


def randomised(model: Any) -> None:
    """Give every adapter in `model` a change of its own."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        if "lora_magnitude" in name:
            parameter.data *= 1 + 0.2 * torch.rand(parameter.shape, generator=generator)


def assert_weights(found: Any, right: Any) -> None:
    """The same weights to 1e-6."""
    weights = dict(right.named_parameters())
    assert found.state_dict().keys() == weights.keys()
    for name, value in found.named_parameters():
        torch.testing.assert_close(
            value, weights[name], rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["plain", "rslora", "dora"])
def test_a_file_of_peft_changes_what_peft_merges(
    tmp_path: Path, base: Path, family: str, changes: dict[str, Any]
) -> None:
    """Real `save_pretrained` of each model, against real `merge_and_unload`."""
    for part in parts(family):
        folder = tmp_path / part
        pipeline, right = opened(base, family), opened(base, family)
        config = peft.LoraConfig(
            r=4,
            lora_alpha=32,
            target_modules=UNET_TARGETS if part == "unet" else TEXT_TARGETS,
            alpha_pattern={"to_q": 3, "k_proj": 5},
            rank_pattern={"to_out.0": 2, "fc1": 8},
            **changes,
        )
        model = peft.get_peft_model(getattr(right, part), config)
        randomised(model)
        model.save_pretrained(folder)
        merged = model.merge_and_unload()
        encoders = tuple(getattr(pipeline, name) for name in parts(family)[1:])
        lora = read_any_lora(folder / "adapter_model.safetensors", family)
        with apply_lora(pipeline.unet, encoders, lora, family=family):
            assert_weights(getattr(pipeline, part), merged)
        (folder / "adapter_config.json").unlink()
        with pytest.raises(LoraError, match=r"adapter_config.json, which says how strong it is, is not beside it"):
            read_any_lora(folder / "adapter_model.safetensors", family)


def test_a_unet_saved_alone_by_diffusers(tmp_path: Path, base: Path, family: str) -> None:
    """Real `save_lora_adapter` and `load_lora_adapter`: its header has no prefixes."""
    trained, loaded, ours = (opened(base, family).unet for _ in range(3))
    trained.add_adapter(
        peft.LoraConfig(
            r=8,
            lora_alpha=32,
            target_modules=["to_q", "to_out.0"],
            alpha_pattern={"to_q": 4},
            rank_pattern={"to_out.0": 2},
        )
    )
    randomised(trained)
    trained.save_lora_adapter(tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    assert "unet" not in file.read_bytes()[:20_000].decode("latin-1")
    loaded.load_lora_adapter(tmp_path, prefix=None, weight_name=file.name, local_files_only=True)
    loaded.fuse_lora()
    with apply_lora(ours, (), read_any_lora(file, family), family=family):
        for name, value in ours.named_parameters():
            torch.testing.assert_close(value, loaded.get_parameter(_in_peft(name, loaded)), rtol=1e-6, atol=1e-6)


def _in_peft(name: str, model: Any) -> str:
    """The name of a weight in a model that may hold peft's layer around its module."""
    module, _, kind = name.rpartition(".")
    return f"{module}.base_layer.{kind}" if hasattr(model.get_submodule(module), "base_layer") else name


@pytest.mark.parametrize("spelling", ["", "text_model."])
def test_patterns_of_text_encoders_with_and_without_text_model(
    tmp_path: Path, base: Path, family: str, spelling: str
) -> None:
    """Real `save_lora_weights`; the configuration's names are spelled as both versions of transformers have them."""
    from diffusers.utils import convert_state_dict_to_diffusers

    pipeline = opened(base, family)
    saved: dict[str, Any] = {}
    alphas: dict[str, float] = {}
    for part in parts(family)[1:]:
        model = getattr(pipeline, part)
        config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "k_proj"])
        peft.inject_adapter_in_model(config, model)
        randomised(model)
        patterns = {"encoder.layers.0.self_attn.k_proj": 1, "^encoder.layers.0.self_attn.q_proj": 16}
        spelled = {
            f"{'^' if name.startswith('^') else ''}{spelling}{name.removeprefix('^')}": alpha
            for name, alpha in patterns.items()
        }
        state = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(model))
        saved |= {
            f"{part}_lora_layers": state,
            f"{part}_lora_adapter_metadata": {**config.to_dict(), "alpha_pattern": spelled},
        }
        prefix = next(encoder.prefix for encoder in FAMILIES[family].text_encoders if encoder.folder == part)
        alphas |= {
            f"{prefix}_text_model_encoder_layers_0_self_attn_k_proj": 1,
            f"{prefix}_text_model_encoder_layers_0_self_attn_q_proj": 16,
        }
    type(pipeline).save_lora_weights(tmp_path, weight_name="a.safetensors", **saved)
    lora = read_any_lora(tmp_path / "a.safetensors", family)
    assert {key: adapter.alpha for key, adapter in lora.adapters.items() if adapter.alpha != 4} == alphas


LINEAR, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
ONE_BY_ONE = "down_blocks.0.attentions.0.proj_in"


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32])
def test_kohyas_layout_does_what_its_layers_do(tmp_path: Path, kind: torch.dtype) -> None:
    """sd-scripts adds up(down(x)) · alpha / rank to what a module gives (LoRAModule.forward of networks/lora.py)."""
    from torch.nn.functional import conv2d, linear

    unet = opened(build_tiny_pipeline(tmp_path / "base"), "sd15").unet
    generator = torch.Generator().manual_seed(4)
    matrices, tensors = {}, {}
    for path, rank, alpha in ((LINEAR, 4, 1.0), (CONV, 3, 2.0), (ONE_BY_ONE, 2, 5.0)):
        out, into, *kernel = unet.get_submodule(path).weight.shape
        down = (0.1 * torch.randn(rank, into, *kernel, generator=generator)).to(kind)
        up = (0.1 * torch.randn(out, rank, *(1,) * len(kernel), generator=generator)).to(kind)
        matrices[path] = (down.double(), up.double(), alpha / rank)
        name = f"lora_unet_{path.replace('.', '_')}"
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=kind)
    save_file(tensors, tmp_path / "a")
    lora = read_any_lora(tmp_path / "a")
    for path, (down, up, scale) in matrices.items():
        layer = unet.get_submodule(path).double()
        side = layer.weight.shape[1]
        is_linear = isinstance(layer, torch.nn.Linear)
        x = torch.randn(*((5, side) if is_linear else (1, side, 6, 6)), generator=generator).double()
        branch = linear(linear(x, down), up) if is_linear else conv2d(conv2d(x, down, padding=layer.padding), up)
        with torch.no_grad():
            right = layer(x) + 0.7 * scale * branch
            with apply_lora(unet, (), lora, 0.7):
                torch.testing.assert_close(layer(x), right, rtol=1e-6, atol=1e-6)


def header(path: Path, configuration: Any, tensors: dict[str, torch.Tensor] = MATRICES) -> Adapter:
    """The adapter of a file of diffusers whose header has this configuration."""
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(configuration)})
    return read_any_lora(path).adapters[KEY]


@pytest.mark.parametrize(
    ("metadata", "alpha"),
    [
        ({"lora_alpha": "32"}, 32.0),
        ({"unet.lora_alpha": "8.5", "unet.r": "4"}, 8.5),
        ({"lora_alpha": "32", "alpha_pattern": '{"to_k": 2}'}, 2.0),
        ({"lora_alpha": "8", "use_rslora": "True"}, 16.0),
        ({"text_encoder.lora_alpha": "32"}, 4.0),  # of another model: alpha = rank
        ({"lora_adapter_metadata": '{"unet": {"lora_alpha": 8}}'}, 8.0),
        ({"lora_adapter_metadata": '{"unet.lora_alpha": 8, "comment": "mine"}'}, 8.0),
        ({"lora_adapter_metadata": '{"text_encoder.r": 4}'}, 4.0),
        ({"lora_adapter_metadata": '{"lora_alpha": 8}', "lora_alpha": "8"}, 8.0),
        ({"ss_network_alpha": "4"}, 4.0),  # as the rank
        ({}, 4.0),
    ],
)
def test_keys_of_the_header(tmp_path: Path, metadata: dict[str, str], alpha: float) -> None:
    save_file(MATRICES, tmp_path / "a", metadata=metadata)
    assert read_any_lora(tmp_path / "a").adapters[KEY].alpha == alpha


def test_a_configuration_of_other_files_in_the_folder_is_not_read(tmp_path: Path) -> None:
    """adapter_config.json is peft's, of its own file alone; but whatever it holds, the file counts as another one."""
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 32}')
    save_file(MATRICES, tmp_path / "a")
    assert read_any_lora(tmp_path / "a").adapters[KEY].alpha == 4
    hashed = lora_hash(tmp_path / "a", file_sha256)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 64}')
    changed = lora_hash(tmp_path / "a", file_sha256)
    (tmp_path / "adapter_config.json").unlink()
    assert len({hashed, changed, lora_hash(tmp_path / "a", file_sha256)}) == 3
    assert lora_hash(tmp_path / "a", file_sha256) == file_sha256(tmp_path / "a")
    save_file(MATRICES, tmp_path / "a", metadata={"lora_alpha": "8"})  # whose scale was read otherwise once
    assert lora_hash(tmp_path / "a", file_sha256) != file_sha256(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"no safetensors file")
    assert lora_hash(tmp_path / "b", file_sha256) == file_sha256(tmp_path / "b")


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"lora_alpha": "32"}, r'lora_alpha must be a number, not "32"'),
        ({"lora_alpha": True}, "lora_alpha must be a number, not true"),
        ({"lora_alpha": [32]}, "lora_alpha must be a number, not a list"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a finite number"),
        ({"lora_alpha": float("inf")}, "lora_alpha must be a finite number"),
        ({"lora_alpha": 10**400}, "lora_alpha must be a finite number"),
        ({"lora_alpha": 0}, "alpha 0"),
        ({"r": 4}, "but no lora_alpha"),
        ({"lora_alpha": 8, "r": 8}, "rank 8 .* its matrices have 4"),
        ({"lora_alpha": 8, "r": 4, "rank_pattern": {"to_k": 2}}, "rank 2 .* its matrices have 4"),
        ({"lora_alpha": 8, "alpha_pattern": {"to_k": "2"}}, 'alpha_pattern of "to_k" must be a number'),
        (
            {"lora_alpha": 8, "alpha_pattern": ["to_k"]},
            "alpha_pattern must be a table of numbers by module, not a list",
        ),
        ({"lora_alpha": 8, "alpha_pattern": {"(x+)+y": 2}}, r"the regular expression \"\(x\+\)\+y\""),
        ({"lora_alpha": 8, "alpha_pattern": {"to_k|to_q": 2}}, "the regular expression"),
        ({"lora_alpha": 8, "alpha_pattern": {str(n): 2 for n in range(10_001)}}, "10001 names, more than a model has"),
        ({"lora_alpha": 8, "use_rslora": 1}, "use_rslora must be true or false"),
        ({"lora_alpha": 8, "peft_type": "LOHA"}, r'peft_type: "LOHA"'),
        ({"lora_alpha": 8, "modules_to_save": ["conv_in"]}, "modules_to_save: a list"),
        ({"lora_alpha": 8, "layer_replication": [[0, 1]]}, "layer_replication"),
        ({"lora_alpha": 8, "bias": "all"}, "bias"),
        *(
            ({"lora_alpha": 8, "init_lora_weights": name}, "changes the base model as well")
            for name in ("pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga")
        ),
        ([8], "must be a table of peft's settings, not a list"),
        (8, "must be a table of peft's settings, not 8"),
    ],
)
def test_configurations_that_cannot_be_followed(tmp_path: Path, configuration: Any, message: str) -> None:
    with pytest.raises(LoraError, match=message) as error:
        header(tmp_path / "rival.safetensors", configuration)
    assert "rival.safetensors" in str(error.value)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "{", "", "\udc80".encode("utf-8", "replace").decode()]
)
def test_json_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    save_file(MATRICES, tmp_path / "a.safetensors", metadata={"lora_adapter_metadata": text})
    with pytest.raises(LoraError, match=r"a\.safetensors: the header's 'lora_adapter_metadata' cannot be read"):
        read_any_lora(tmp_path / "a.safetensors")
    save_file({f"base_model.model.{key}": value for key, value in MATRICES.items()}, tmp_path / "peft.safetensors")
    for data in (text.encode(), b"\xff\xfe\x00"):
        (tmp_path / "adapter_config.json").write_bytes(data)
        with pytest.raises(LoraError, match=r"adapter_config\.json cannot be read"):
            read_any_lora(tmp_path / "peft.safetensors")


@pytest.mark.parametrize(
    ("tensor", "metadata", "message"),
    [
        (8.0, {"lora_adapter_metadata": '{"lora_alpha": 16}'}, "is 8 in a tensor and 16 in peft's configuration"),
        (0.0, {"lora_adapter_metadata": '{"lora_alpha": 16}'}, "an alpha of 0"),
        (None, {"lora_adapter_metadata": '{"lora_alpha": 16}', "lora_alpha": "8"}, "stated twice, and differently"),
        (None, {"lora_adapter_metadata": '{"lora_alpha": 16, "unet.lora_alpha": 8}'}, "stated twice, and differently"),
        (None, {"ss_network_alpha": "8"}, "none of 1 module has an alpha"),
    ],
)
def test_scales_that_contradict_one_another(
    tmp_path: Path, tensor: float | None, metadata: dict[str, str], message: str
) -> None:
    alpha = {} if tensor is None else {f"{PATH}.alpha": torch.tensor(tensor)}
    save_file({**MATRICES, **alpha}, tmp_path / "a", metadata=metadata)
    with pytest.raises(LoraError, match=message):
        read_any_lora(tmp_path / "a")


def test_alphas_that_agree_but_for_rounding(tmp_path: Path) -> None:
    alpha = torch.tensor(0.1, dtype=torch.bfloat16)
    found = header(tmp_path / "a", {"lora_alpha": 0.1}, {**MATRICES, f"{PATH}.alpha": alpha})
    assert found.alpha == alpha.item()  # that of the tensor, which other programs read


def test_no_pattern_takes_long(tmp_path: Path) -> None:
    """Ten thousand names against a hundred modules each, and a name as long as a header may be."""
    tensors = {}
    for block in range(100):
        path = f"down_blocks.{block}.attentions.0.transformer_blocks.0.attn2.to_k"
        tensors |= {f"{path}.lora_A.weight": torch.ones(1, 8), f"{path}.lora_B.weight": torch.ones(6, 1)}
    names = {f"{number}.to_k": 2 for number in range(9_998)}
    patterns = {**names, "a." * 200_000: 2, "(a+)+" * 2: 2}
    start = time.perf_counter()
    for table in (patterns, {**names, "a." * 200_000: 2}):
        text = json.dumps({"lora_alpha": 8, "alpha_pattern": table})
        save_file(tensors, tmp_path / "a", metadata={"lora_adapter_metadata": text})
        if table is patterns:
            with pytest.raises(LoraError, match="regular expression"):
                read_any_lora(tmp_path / "a")
        else:
            assert len(read_any_lora(tmp_path / "a").adapters) == 100
    assert time.perf_counter() - start < 20  # minutes, or for ever, for a regular expression


FLAG = st.booleans()
WORD = st.text("ab_0", min_size=1, max_size=3)
DOTTED = st.lists(WORD, min_size=1, max_size=4).map(".".join)


@given(
    path=DOTTED, name=DOTTED, escaped=st.booleans(), whole=st.booleans(), end=st.booleans(), any_character=st.booleans()
)
def test_names_mean_what_they_mean_to_peft(
    path: str, name: str, escaped: bool, whole: bool, end: bool, any_character: bool
) -> None:
    pattern = name.replace("_", ".") if any_character else name
    pattern = pattern.replace(".", "\\.") if escaped else pattern
    pattern = f"{'^' if whole else ''}{pattern}{'$' if end else ''}"
    parsed = parsed_name(pattern)
    assert parsed is not None
    assert is_named(path, parsed) == (get_pattern_key([pattern], path) == pattern or path == pattern)


@pytest.mark.parametrize(
    "pattern", ["", "^", "a*", "a+", "(a)", "a|b", "[ab]", "a{2}", "\\d", "a?", "a^", "a b", "a\n"]
)
def test_expressions_that_are_no_names(pattern: str) -> None:
    assert parsed_name(pattern) is None


REPORTED = REPOSITORY.parent / "shared" / "reports" / "rivals"


@pytest.mark.skipif(not REPORTED.is_dir(), reason="the files of public reports are not here")
def test_the_files_of_public_reports() -> None:
    """huggingface/diffusers#6087 and #11324, peft#2608, bmaltais/kohya_ss#1986."""

    def sizes(file: str, family: str) -> list[float]:
        adapters = read_any_lora(REPORTED / file, family).adapters.values()
        return [round(float((each.alpha / each.rank * each.up @ each.down).norm()), 4) for each in adapters]

    def alphas(file: str, family: str) -> dict[str, float]:
        adapters = read_any_lora(REPORTED / file, family).adapters
        return {key: adapter.alpha for key, adapter in adapters.items()}

    assert 3.5902 in sizes("diffusers_unet/pytorch_lora_weights.safetensors", "sd15")
    assert set(alphas("diffusers_unet/pytorch_lora_weights.safetensors", "sd15").values()) == {32.0}
    assert set(alphas("peft_unet/adapter_model.safetensors", "sd15").values()) == {32.0}
    stated = {
        "0_self_attn_k_proj": 1.0,
        "0_self_attn_q_proj": 16.0,
        "1_self_attn_k_proj": 4.0,
        "1_self_attn_q_proj": 4.0,
    }
    assert alphas("te2/pytorch_lora_weights.safetensors", "sdxl") == {
        f"{prefix}_text_model_encoder_layers_{name}": alpha
        for prefix in ("lora_te1", "lora_te2")
        for name, alpha in stated.items()
    }
    with pytest.raises(LoraError, match=r"nan\.safetensors: 1 of 3 keys holds values that are not finite"):
        read_any_lora(REPORTED / "nan.safetensors")

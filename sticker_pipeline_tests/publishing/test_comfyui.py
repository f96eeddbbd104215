"""Both formats of the workflow, against ComfyUI's own node definitions (comfyui_nodes.py)."""

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.publishing.comfyui import MAX_SEED, Lora, Workflow, WorkflowError, api_format, ui_format
from sticker_pipeline.tagging.captions import escaped_prompt, is_weighted, plain_text
from sticker_pipeline_tests.publishing.comfyui_nodes import known_nodes, text_sent, ui_to_api
from sticker_pipeline_tests.publishing.strategies import workflows

NODES = known_nodes()
WORKFLOW = Workflow(
    checkpoint="anime.safetensors",
    loras=(Lora("velvet_moth.safetensors", 0.8),),
    trigger="zzq_moth",
    positive="zzq_moth, smile",
    negative="lowres",
    seed=7,
    steps=25,
    cfg=7.0,
    sampler="dpmpp_2m",
    scheduler="karras",
    width=512,
    height=768,
    family="sd15",
)
STYLE, LCM = Lora("chibi.safetensors", 0.5), Lora("fast/lcm.safetensors", 1.0)


def by_type(nodes: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (node,) = (node for node in nodes if node["type"] == name)
    return node


def test_the_api_format_of_a_plain_workflow() -> None:
    assert api_format(WORKFLOW) == {
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "anime.safetensors"}},
        "3": {
            "class_type": "LoraLoader",
            "inputs": {
                "model": ["2", 0],
                "clip": ["2", 1],
                "lora_name": "velvet_moth.safetensors",
                "strength_model": 0.8,
                "strength_clip": 0.8,
            },
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "zzq_moth, smile", "clip": ["3", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "lowres", "clip": ["3", 1]}},
        "8": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
        "9": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["3", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["8", 0],
                "seed": 7,
                "steps": 25,
                "cfg": 7.0,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 1.0,
            },
        },
        "10": {"class_type": "VAEDecode", "inputs": {"samples": ["9", 0], "vae": ["2", 2]}},
        "11": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "sticker"}},
    }


def test_several_loras_are_loaded_one_after_the_other() -> None:
    plain, prompt = api_format(WORKFLOW), api_format(replace(WORKFLOW, loras=(*WORKFLOW.loras, STYLE, LCM)))
    assert prompt["3"] == plain["3"]
    assert prompt["12"]["inputs"] == {
        "model": ["3", 0], "clip": ["3", 1], "lora_name": "chibi.safetensors", "strength_model": 0.5,
        "strength_clip": 0.5,
    }  # fmt: skip
    assert prompt["13"]["inputs"] == {
        "model": ["12", 0], "clip": ["12", 1], "lora_name": "fast/lcm.safetensors", "strength_model": 1.0,
        "strength_clip": 1.0,
    }  # fmt: skip
    assert prompt["9"]["inputs"]["model"] == ["13", 0]
    assert prompt["6"]["inputs"]["clip"] == prompt["7"]["inputs"]["clip"] == ["13", 1]
    assert prompt.keys() == plain.keys() | {"12", "13"}
    between = api_format(replace(WORKFLOW, loras=(*WORKFLOW.loras, STYLE), v_prediction=True, clip_skip=2))
    assert between["4"]["inputs"]["model"] == ["12", 0] and between["5"]["inputs"]["clip"] == ["12", 1]


def test_without_loras_the_base_model_draws() -> None:
    prompt = api_format(replace(WORKFLOW, loras=()))
    assert "3" not in prompt and prompt["9"]["inputs"]["model"] == ["2", 0]
    assert prompt["6"]["inputs"]["clip"] == ["2", 1]


def test_v_prediction_and_clip_skip_are_nodes_between_the_lora_and_what_uses_it() -> None:
    prompt = api_format(replace(WORKFLOW, v_prediction=True, zero_snr=True, clip_skip=2))
    assert prompt["4"] == {
        "class_type": "ModelSamplingDiscrete",
        "inputs": {"model": ["3", 0], "sampling": "v_prediction", "zsnr": True},
    }
    assert prompt["5"] == {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["3", 1], "stop_at_clip_layer": -2}}
    assert prompt["9"]["inputs"]["model"] == ["4", 0]
    assert prompt["6"]["inputs"]["clip"] == prompt["7"]["inputs"]["clip"] == ["5", 0]
    assert api_format(replace(WORKFLOW, zero_snr=True))["4"]["inputs"]["sampling"] == "eps"
    assert not {"4", "5"} & set(api_format(WORKFLOW))


@given(workflows())
def test_both_formats_are_the_same_graph(workflow: Workflow) -> None:
    stored = json.loads(json.dumps(ui_format(workflow)))
    assert ui_to_api(stored, NODES) == api_format(workflow)


@given(workflows())
def test_the_api_format_has_exactly_what_the_nodes_want(workflow: Workflow) -> None:
    prompt = api_format(workflow)
    for node in prompt.values():
        definition = NODES[node["class_type"]]
        assert set(node) == {"class_type", "inputs"}
        assert set(node["inputs"]) == {wanted["name"] for wanted in definition["inputs"]}
        for wanted in definition["inputs"]:
            value = node["inputs"][wanted["name"]]
            if isinstance(value, list):
                source, slot = value
                assert NODES[prompt[source]["class_type"]]["outputs"][slot] == wanted["type"]
            else:
                kinds = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool, "COMBO": str}
                assert type(value) is kinds[wanted["type"]]
                assert value in wanted.get("choices", [value])
                assert wanted.get("min", value) <= value <= wanted.get("max", value)


@given(workflows())
def test_links_of_the_ui_format_agree_at_both_ends(workflow: Workflow) -> None:
    stored = ui_format(workflow)
    nodes = {node["id"]: node for node in stored["nodes"]}
    assert len(nodes) == len(stored["nodes"])
    assert stored["last_node_id"] == max(nodes)
    assert stored["last_link_id"] == len(stored["links"]) == max(link[0] for link in stored["links"])
    for number, source, slot, target, socket, kind in stored["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][socket]["link"] == number
        assert nodes[source]["outputs"][slot]["type"] == nodes[target]["inputs"][socket]["type"] == kind
        assert nodes[source]["order"] < nodes[target]["order"]
    ends = [number for node in nodes.values() for output in node["outputs"] for number in output["links"]]
    assert sorted(ends) == list(range(1, len(stored["links"]) + 1))
    for node in nodes.values():
        outputs = NODES[node["type"]]["outputs"] if node["type"] in NODES else []
        assert [output["type"] for output in node["outputs"]] == outputs


@given(workflows())
def test_boxes_do_not_overlap_and_lie_in_their_groups(workflow: Workflow) -> None:
    stored = ui_format(workflow)
    boxes = [(x, y - 30, x + w, y + h) for x, y, w, h in ((*n["pos"], *n["size"]) for n in stored["nodes"])]
    groups = [(x, y, x + w, y + h) for x, y, w, h in (group["bounding"] for group in stored["groups"])]
    for one, other in [*combinations(boxes, 2), *combinations(groups, 2)]:
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    title = 30  # of a group, above its nodes
    for box in boxes:
        assert sum(g[0] < box[0] and g[1] + title <= box[1] and box[2] < g[2] and box[3] < g[3] for g in groups) == 1


def test_the_sampler_has_the_browsers_own_widget_behind_the_seed() -> None:
    values = by_type(ui_format(WORKFLOW)["nodes"], "KSampler")["widgets_values"]
    assert values == [7, "randomize", 25, 7.0, "dpmpp_2m", "karras", 1.0]


def test_the_note_says_what_a_person_needs() -> None:
    stored = ui_format(replace(WORKFLOW, loras=(Lora("stickers/moth.safetensors", 0.8), LCM)))
    (text,) = by_type(stored["nodes"], "Note")["widgets_values"]
    for words in (
        "zzq_moth",
        "SD1.5",
        "models/checkpoints/anime.safetensors",
        "models/loras/stickers/moth.safetensors",
        "models/loras/fast/lcm.safetensors",
    ):
        assert words in text
    assert "<lora:moth:0.8> <lora:lcm:1>" in text
    assert stored["version"] == 0.4


def test_the_note_says_if_nobody_can_get_the_base_model() -> None:
    (text,) = by_type(ui_format(replace(WORKFLOW, base="A toy."))["nodes"], "Note")["widgets_values"]
    assert "A toy.\n" in text and "models/checkpoints" not in text and "SD1.5" not in text


def test_tags_with_parentheses_and_braces_are_read_as_they_are() -> None:
    workflow = replace(WORKFLOW, positive="moth_(insect), {x|y}, :(")
    assert api_format(workflow)["6"]["inputs"]["text"] == "moth_\\(insect\\), {x|y}, :\\("
    texts = {n["title"]: n["widgets_values"] for n in ui_format(workflow)["nodes"] if n["type"] == "CLIPTextEncode"}
    assert texts["Prompt"] == ["moth_\\(insect\\), \\{x|y\\}, :\\("]


@settings(max_examples=1000)
@given(st.text("a\\{}|/*(", max_size=8))
def test_a_prompt_arrives_as_it_is_or_is_refused(text: str) -> None:
    try:
        workflow = replace(WORKFLOW, positive=text)
    except WorkflowError:
        with pytest.raises(AssertionError):
            shown = escaped_prompt(text)
            assert text_sent(shown.replace("{", "\\{").replace("}", "\\}")) == shown
        return
    prompt = ui_to_api(ui_format(workflow), NODES)["6"]["inputs"]["text"]
    assert prompt == escaped_prompt(text)
    assert prompt.replace("\\(", "(") == (plain_text(text) if is_weighted(text) else text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": "anime.ckpt"}, "checkpoint 'anime.ckpt' is no name"),
        ({"width": 500}, "width 500 is no multiple of 8"),
        ({"height": 8}, "height 8"),
        ({"seed": MAX_SEED + 1}, "seed"),
        ({"seed": -1}, "seed -1"),
        ({"steps": 0}, "steps 0 is not from 1 to 10000"),
        ({"cfg": float("nan")}, "cfg nan"),
        ({"batch": 0}, "batch 0"),
        ({"clip_skip": 0}, "clip_skip 0"),
        ({"family": "sdxl", "clip_skip": 2}, "clip_skip is for SD1.5"),
        ({"prefix": "%date%"}, "prefix '%date%'"),
        ({"prefix": "../up"}, "prefix"),
        ({"positive": "a // b"}, r"positive prompt has '//'"),
        ({"positive": "a\nb"}, r"positive prompt has '\\n'"),
        ({"negative": "\\||/"}, "negative prompt"),
    ],
)
def test_what_comfyui_would_refuse_or_change_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        replace(WORKFLOW, **change)
    with pytest.raises(ValueError, match="'plms' is none of"):
        replace(WORKFLOW, sampler="plms")


@pytest.mark.parametrize(
    ("file", "strength", "words"),
    [
        ("C:\\moth.safetensors", 1.0, "lora 'C:.*' is no name"),
        ("/moth.safetensors", 1.0, "lora '/moth.safetensors' is no name"),
        ("moth.safetensors", -101.0, "strength -101.0 is not from -100 to 100"),
    ],
)
def test_a_lora_that_comfyui_would_refuse_is_refused(file: str, strength: float, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        Lora(file, strength)

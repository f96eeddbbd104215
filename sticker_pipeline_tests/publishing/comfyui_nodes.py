"""Definitions of ComfyUI's nodes, and its browser's conversion of workflows to API format.

data/comfyui_nodes.json is ComfyUI 0.3.64's answer to `GET /object_info` about our nodes, reduced by `definitions` to
the parts that matter to a workflow. benchmarks/bench_comfyui.py compares it with a running ComfyUI.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "comfyui_nodes.json"
FILE_LISTS = ("ckpt_name", "lora_name")  # their choices are the files on that machine


def known_nodes() -> dict[str, Any]:
    return json.loads(DATA.read_text(encoding="utf-8"))


def definitions(object_info: Mapping[str, Any], types: list[str]) -> dict[str, Any]:
    """Reduce each of `types` to its inputs in order and its outputs' types.

    An input is {name, type, what matters of the options}.
    """
    return {
        name: {
            "inputs": [
                _input(key, *object_info[name]["input"]["required"][key]) for key in _required(object_info[name])
            ],
            "outputs": object_info[name]["output"],
        }
        for name in types
    }


def _required(node: Mapping[str, Any]) -> list[str]:
    return node["input_order"]["required"]


def _input(name: str, kind: Any, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    kept = {key: value for key, value in (options or {}).items() if key in ("min", "max", "control_after_generate")}
    if (options or {}).get("dynamicPrompts"):
        kept["dynamicPrompts"] = True
    if isinstance(kind, list):
        return {"name": name, "type": "COMBO", **({} if name in FILE_LISTS else {"choices": kind}), **kept}
    return {"name": name, "type": kind, **kept}


def ui_to_api(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a UI-format `workflow` to the API format.

    Values go by their place among the widgets, sockets by their links. Nodes that are not in `nodes` are the browser's
    own and are left out. Raises AssertionError where the workflow does not fit the definitions.
    """
    links = {link[0]: link for link in workflow["links"]}
    return {
        str(node["id"]): {"class_type": node["type"], "inputs": _inputs(node, nodes[node["type"]], links)}
        for node in workflow["nodes"]
        if node["type"] in nodes
    }


def _inputs(node: Mapping[str, Any], definition: Mapping[str, Any], links: Mapping[int, list[Any]]) -> dict[str, Any]:
    sockets, values, inputs = {socket["name"]: socket for socket in node["inputs"]}, list(node["widgets_values"]), {}
    for wanted in definition["inputs"]:
        if wanted["type"].isupper() and wanted["type"] not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            socket = sockets.pop(wanted["name"])
            _, source, slot, target, place, kind = links[socket["link"]]
            assert (target, kind) == (node["id"], wanted["type"]) and node["inputs"][place] is socket
            inputs[wanted["name"]] = [str(source), slot]
            continue
        value = values.pop(0)
        inputs[wanted["name"]] = text_sent(value) if wanted.get("dynamicPrompts") else value
        if wanted.get("control_after_generate"):
            assert values.pop(0) in ("fixed", "increment", "decrement", "randomize")
    assert not values and not sockets, f"left over of {node['type']}: {values}, {list(sockets)}"
    return inputs


def text_sent(text: str) -> str:
    """The browser's text of a text box without choices.

    Comments go, braces and bars lose their backslash.
    """
    text = re.sub(r"/\*.*?\*/|//.*", "", text)
    plain = re.sub(r"\\.", "", text)
    assert "{" not in plain and not plain.endswith("\\"), f"{text!r} would be drawn from, or broken"
    return re.sub(r"\\([{|}])", r"\1", text)

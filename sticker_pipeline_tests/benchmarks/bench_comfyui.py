"""Test of publishing/comfyui.py in real ComfyUI: prints each check, stops at a failure.

Run: python -m sticker_pipeline_tests.benchmarks.bench_comfyui --comfyui CHECKOUT --comfyui-python PYTHON --base FOLDER

PYTHON has the packages of CHECKOUT's requirements.txt. FOLDER is an SD1.5 model in the diffusers layout and of the true
architecture (random weights will do: benchmarks/true_base.py); a single file is written of it. Takes 2 GB of disk and 9
GB of memory. `--chromium PROGRAM` drops the images into ComfyUI's browser part. `--keep FOLDER` keeps images, the log
and screenshots.
"""

import argparse
import base64
import io
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import numpy as np
import torch
from PIL import Image

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.diffusion.base_model import BaseNoise, base_noise, open_base
from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, write_lora
from sticker_pipeline.diffusion.samplers import SCHEDULERS, make_scheduler
from sticker_pipeline.generation.generate import generate, with_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.publishing.comfyui import Lora, Workflow, api_format, ui_format
from sticker_pipeline.publishing.png import png_with_workflow
from sticker_pipeline.publishing.samplers import our_sampler
from sticker_pipeline_tests.benchmarks.browser import Page, opened
from sticker_pipeline_tests.diffusion.lora.expected_keys import read
from sticker_pipeline_tests.publishing.comfyui_nodes import definitions, known_nodes
from sticker_pipeline_tests.single_file import write_single_file

SIDE, STEPS, RANK = 64, 5, 4
CHECKPOINT, LORA, STRANGE_LORA = "random_sd15.safetensors", "moth.safetensors", "strange.safetensors"
OTHER_LORA = "style.safetensors"
STACKED = (Lora(OTHER_LORA, 0.5), Lora(LORA, 0.75))
START_SECONDS, IMAGE_SECONDS = 120.0, 300.0
NOT_MATCHED = ("lora key not loaded", "NOT LOADED")
# What a LoRA may have been trained for, as its metadata state it.
TRAINED = {
    "clip skip 2": {"ss_clip_skip": "2"},
    "v-prediction": {"modelspec.prediction_type": "v"},
    "clip skip 2, v-prediction, zero SNR": {
        "ss_clip_skip": "2",
        "modelspec.prediction_type": "v",
        "ss_zero_terminal_snr": "True",
    },
}
PROMPTS = {
    "weights": r"zzq_moth, (smile:1.4), (waving, blue sky:0.6), star \(symbol\), moth_(insect)",
    "two chunks": "zzq_moth, " + ", ".join(["smile", "waving", "blue sky", "long hair"] * 10),
}
SAME = 1.0  # mean difference of pixels, of 255: ComfyUI cuts fractions off where diffusers rounds, which makes 0.5


@dataclass(frozen=True)
class ComfyUI:
    """A running server, and the file that it logs to."""

    url: str
    log: Path

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a GET, or with a `body` to a POST of it."""
        data = None if body is None else json.dumps(body).encode()
        with urlopen(HttpRequest(self.url + path, data, {"Content-Type": "application/json"})) as answer:
            return json.loads(answer.read() or "null")

    def draw(self, prompt: dict[str, Any]) -> np.ndarray:
        """RGB pixels of the first image of a prompt in the API format. Raises RuntimeError where it fails."""
        return self.image(self.ask("/prompt", {"prompt": prompt})["prompt_id"])

    def image(self, prompt_id: str) -> np.ndarray:
        deadline = time.monotonic() + IMAGE_SECONDS
        while time.monotonic() < deadline:
            if entry := self.ask(f"/history/{prompt_id}").get(prompt_id):
                if entry["status"]["status_str"] != "success":
                    raise RuntimeError(f"ComfyUI failed: {entry['status']['messages']}")
                (image,) = (image for output in entry["outputs"].values() for image in output["images"])
                query = f"/view?filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
                with urlopen(self.url + query) as answer:
                    return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))
            time.sleep(0.2)
        raise TimeoutError(f"No image in {IMAGE_SECONDS:.0f} s; see {self.log}.")

    def unmatched(self) -> list[str]:
        """Lines of the log about keys of a LoRA that ComfyUI found no module for."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if any(words in line for words in NOT_MATCHED)]


def main() -> None:
    arguments = _arguments()
    if not (arguments.comfyui and arguments.comfyui_python and arguments.base):
        print("Open: real ComfyUI; name it with --comfyui, --comfyui-python and --base.")
        return
    with tempfile.TemporaryDirectory() as temporary:
        keep = arguments.keep or Path(temporary) / "keep"
        keep.mkdir(parents=True, exist_ok=True)
        folder = Path(temporary) / "comfyui"
        _write_models(arguments.base, folder / "models")
        ours, stacked = _our_images(arguments.base, folder / "models" / "loras")
        trained = _our_images_as_trained(arguments.base, folder / "models" / "loras")
        with _running(arguments.comfyui, arguments.comfyui_python, folder, keep / "comfyui.log") as comfyui:
            _check_definitions(comfyui)
            _check_refusals(comfyui)
            images = _check_drawing(comfyui)
            _check_against_our_pipeline(comfyui, base_noise(arguments.base), ours)
            _check_stacked(comfyui, base_noise(arguments.base), stacked)
            _check_as_trained(comfyui, trained)
            if arguments.chromium:
                _check_browser(comfyui, arguments.chromium, images, keep)
    print("all checks passed")


def _workflow(**changes: Any) -> Workflow:
    sampler, scheduler = our_sampler("dpmsolver++", BaseNoise())
    plain = Workflow(
        checkpoint=CHECKPOINT,
        loras=(Lora(LORA),),
        trigger="zzq_moth",
        positive="zzq_moth, smile, waving",
        negative="lowres",
        seed=7,
        steps=STEPS,
        cfg=4.0,
        sampler=sampler,
        scheduler=scheduler,
        width=SIDE,
        height=SIDE,
        family="sd15",
    )
    return replace(plain, **changes)


def _write_models(base: Path, models: Path) -> None:
    """The checkpoint, two LoRAs of random values for every module that one may change, and one with a strange key."""
    (models / "checkpoints").mkdir(parents=True)
    write_single_file(base, "sd15", models / "checkpoints" / CHECKPOINT)
    adapters, other = _random_adapters(0), _random_adapters(1)
    write_lora(models / "loras" / LORA, LoraFile(adapters), "float16")
    write_lora(models / "loras" / OTHER_LORA, LoraFile(other), "float16")
    for number, metadata in enumerate(TRAINED.values()):
        write_lora(models / "loras" / _trained_name(number), LoraFile(adapters, metadata), "float16")
    strange = {**adapters, "lora_unet_no_such_module": next(iter(adapters.values()))}
    write_lora(models / "loras" / STRANGE_LORA, LoraFile(strange), "float16")


def _random_adapters(seed: int) -> dict[str, Adapter]:
    generator = torch.Generator().manual_seed(seed)
    adapters = {}
    for module in read("sd15"):
        out, into, *kernel = module.shape
        down = torch.randn((RANK, into, *kernel), generator=generator) / into**0.5
        up = torch.randn((out, RANK, *[1 for _ in kernel]), generator=generator) / out**0.5
        adapters[module.key] = Adapter(down, up, RANK / 2)
    return adapters


@contextmanager
def _running(checkout: Path, python: str, folder: Path, log: Path) -> Iterator[ComfyUI]:
    """ComfyUI on the CPU with its models in `folder`, on the loopback interface, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "main.py", "--cpu", "--port", str(port), "--base-directory", str(folder)]
    command += ["--disable-all-custom-nodes", "--disable-api-nodes", "--disable-auto-launch"]
    command += ["--database-url", f"sqlite:///{folder / 'comfyui.db'}"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=checkout, stdout=file, stderr=subprocess.STDOUT, env=os.environ)
    comfyui = ComfyUI(f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_up(comfyui, process)
        yield comfyui
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(comfyui: ComfyUI, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            version = comfyui.ask("/system_stats")["system"]["comfyui_version"]
        except OSError:
            time.sleep(0.5)
        else:
            print(f"ComfyUI {version} runs")
            return
    raise RuntimeError(f"ComfyUI did not start; see {comfyui.log}.")


def _check(what: str, passed: bool) -> None:
    print(f"{'ok    ' if passed else 'FAILED'} {what}", flush=True)
    if not passed:
        raise SystemExit(1)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean of the absolute differences of two uint8 images, from 0 to 255."""
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def _check_definitions(comfyui: ComfyUI) -> None:
    """Another version may offer more choices; anything else would be read otherwise."""
    known = known_nodes()
    offered = definitions(comfyui.ask("/object_info"), list(known))
    _check("the nodes are those that the tests know", _without_more_choices(offered, known) == known)


def _without_more_choices(offered: Any, known: Any) -> Any:
    """`offered` with lists of choices cut down to those that are `known`."""
    if isinstance(offered, dict):
        return {key: _without_more_choices(value, known.get(key)) for key, value in offered.items()}
    if isinstance(offered, list) and isinstance(known, list):
        if all(isinstance(one, str) for one in offered):
            return [one for one in offered if one in known]
        if len(offered) == len(known):
            return [_without_more_choices(*pair) for pair in zip(offered, known, strict=True)]
    return offered


def _check_drawing(comfyui: ComfyUI) -> dict[str, tuple[Workflow, np.ndarray]]:
    """Workflows by name, each with what ComfyUI draws of its API format."""
    workflows = {
        "plain": _workflow(),
        "everything": _workflow(
            positive="zzq_moth, moth_(insect), {a|b}, :(, 日本, \\o/",
            v_prediction=True,
            zero_snr=True,
            clip_skip=2,
            sampler="euler_ancestral",
            scheduler="karras",
            loras=(Lora(LORA, 0.75),),
            prefix="moth/moth",
            width=SIDE + 8,
        ),
        "stacked, lcm": _workflow(loras=STACKED, sampler="lcm", scheduler="sgm_uniform", cfg=1.0, steps=2),
    }
    images = {name: (workflow, comfyui.draw(api_format(workflow))) for name, workflow in workflows.items()}
    for name, (workflow, image) in images.items():
        _check(f"{name}: the API format draws {image.shape}", image.shape == (workflow.height, workflow.width, 3))
    _check("no key of our LoRA is unmatched", not comfyui.unmatched())
    plain = images["plain"][1]
    without = _difference(plain, comfyui.draw(api_format(_workflow(loras=(Lora(LORA, 0.0),)))))
    _check(f"the LoRA changes the image: by {without:.1f} of 255 on average", without > 1)
    for changes in ({"clip_skip": 2}, {"v_prediction": True}):
        changed = _difference(plain, comfyui.draw(api_format(_workflow(**changes))))
        _check(f"{changes} changes the image: by {changed:.2f}", changed > 0)
    comfyui.draw(api_format(_workflow(loras=(Lora(STRANGE_LORA),), steps=1)))
    _check(f"a strange key would be seen: {comfyui.unmatched()}", len(comfyui.unmatched()) >= 1)
    return images


def _check_refusals(comfyui: ComfyUI) -> None:
    """Check that wrong workflows are refused: so an image means that its workflow is valid."""
    _check("/prompt refuses the UI format", _refused(comfyui, ui_format(_workflow())))
    wrong = api_format(_workflow())
    wrong["9"]["inputs"]["sampler_name"] = "plms"
    _check("/prompt refuses a sampler that it has not", _refused(comfyui, wrong))


def _refused(comfyui: ComfyUI, prompt: dict[str, Any]) -> bool:
    try:
        comfyui.ask("/prompt", {"prompt": prompt})
    except HTTPError as error:
        return error.code >= 400
    return False


def _our_images(base: Path, loras: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return generation/'s images with the LoRA, RGB pixels by our samplers' names; with STACKED by the first.

    `loras`: the folder of the files.
    """
    workflow = _workflow()
    pipeline = open_base(base, "sd15", torch.float32, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    request = Request("sticker", workflow.positive, workflow.seed)
    shared = {"steps": STEPS, "guidance_scale": workflow.cfg, "negative_prompt": workflow.negative}
    config, images = pipeline.scheduler.config, {}

    def drawn(name: str, *used: Lora) -> np.ndarray:
        pipeline.scheduler = make_scheduler(name, config)
        settings = GenerationSettings.model_validate({"scheduler": name, **shared})
        with with_loras(pipeline, [(loras / lora.file, lora.strength) for lora in used]) as model:
            return np.asarray(next(generate(model, [request], settings, SIDE)))

    for name in SCHEDULERS.keys() - {"lcm"}:  # which adds noise between its steps, each program its own
        images[name] = drawn(name, Lora(LORA))
    return images, drawn("dpmsolver++", *STACKED)


def _trained_name(number: int) -> str:
    return f"trained_{number}.safetensors"


def _our_images_as_trained(base: Path, loras: Path) -> dict[str, tuple[Workflow, np.ndarray]]:
    """Return generation/'s images by name, with LoRAs that state their base model's training, and with other prompts.

    Each has the workflow that is published for it.
    """
    pipeline = open_base(base, "sd15", torch.float32, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config)
    wanted = {name: (_trained_name(number), _workflow().positive) for number, name in enumerate(TRAINED)}
    wanted |= {name: (LORA, prompt) for name, prompt in PROMPTS.items()}
    found = {}
    for name, (file, prompt) in wanted.items():
        plain = _workflow(positive=prompt, loras=(Lora(file),))
        settings = GenerationSettings(
            scheduler="dpmsolver++", steps=STEPS, guidance_scale=plain.cfg, negative_prompt=plain.negative
        )
        with with_loras(pipeline, [(loras / file, 1.0)]) as model:
            image = next(generate(model, [Request("sticker", prompt, plain.seed)], settings, SIDE))
        trained = model.trained
        sampler, scheduler = our_sampler("dpmsolver++", BaseNoise(zero_snr=trained.zero_terminal_snr))
        workflow = replace(
            plain,
            sampler=sampler,
            scheduler=scheduler,
            v_prediction=trained.prediction == "v_prediction",
            zero_snr=trained.zero_terminal_snr,
            clip_skip=trained.clip_skip,
        )
        found[name] = (workflow, np.asarray(image))
    return found


def _check_as_trained(comfyui: ComfyUI, ours: dict[str, tuple[Workflow, np.ndarray]]) -> None:
    """Check that ComfyUI generates our image only with the settings of the LoRA's training in the workflow."""
    for name, (workflow, image) in ours.items():
        difference = _difference(image, comfyui.draw(api_format(workflow)))
        without = replace(workflow, clip_skip=1, v_prediction=False, zero_snr=False, positive=_workflow().positive)
        left_out = _difference(image, comfyui.draw(api_format(without)))
        _check(f"{name}: {difference:.2f} of 255 from ours, {left_out:.2f} without it", difference < SAME < left_out)


def _check_against_our_pipeline(comfyui: ComfyUI, noise: BaseNoise, ours: dict[str, np.ndarray]) -> None:
    """Check that ComfyUI generates the same images as generation/, with each of our samplers."""
    names = {name: our_sampler(name, noise) for name in ours}
    theirs = {
        name: comfyui.draw(api_format(_workflow(sampler=sampler, scheduler=scheduler)))
        for name, (sampler, scheduler) in names.items()
    }
    for name, image in ours.items():
        differences = {other: _difference(image, drawn) for other, drawn in theirs.items()}
        shown = ", ".join(f"{other} {value:.2f}" for other, value in differences.items())
        nearest = min(differences, key=lambda other: differences[other])
        passed = nearest == name and differences[name] < SAME
        _check(f"our {name} against ComfyUI's images: {shown} of 255", passed)


def _check_stacked(comfyui: ComfyUI, noise: BaseNoise, ours: np.ndarray) -> None:
    """Check that several LoRAs with strengths have the same effect in ComfyUI and in generation/."""
    sampler, scheduler = our_sampler("dpmsolver++", noise)
    shared: dict[str, Any] = {"sampler": sampler, "scheduler": scheduler}
    theirs = comfyui.draw(api_format(_workflow(loras=STACKED, **shared)))
    difference = _difference(ours, theirs)
    alone = _difference(ours, comfyui.draw(api_format(_workflow(loras=STACKED[1:], **shared))))
    _check(f"two LoRAs: {difference:.2f} of 255 from ours, {alone:.2f} without one", difference < SAME < alone)


def _check_browser(comfyui: ComfyUI, chromium: str, images: dict[str, tuple[Workflow, np.ndarray]], keep: Path) -> None:
    """Check that an image dropped into the browser part becomes its embedded workflow, and runs from there."""
    comfyui.ask("/settings", {"Comfy.TutorialCompleted": True})  # else its templates lie over the canvas
    with opened(chromium, comfyui.url) as page:
        page.wait_for("window.app && window.app.graph && window.app.canvas && window.LiteGraph")
        page.wait_for("Object.keys(window.LiteGraph.registered_node_types).includes('KSampler')")
        for name, (workflow, pixels) in images.items():
            png = png_with_workflow(Image.fromarray(pixels), workflow)
            (keep / f"{name}.png").write_bytes(png)
            _drop(page, png)
            titles = [node["title"] for node in ui_format(workflow)["nodes"]]
            page.wait_for(f"app.graph.nodes.length === {len(titles)}")
            _check(f"{name}: dropped, it shows {len(titles)} nodes", _titles(page) == sorted(titles))
            missing = page.evaluate(
                "app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types) || n.has_errors)"
                ".map(n => n.type)"
            )
            _check(f"{name}: no node is missing {missing}", missing == [])
            sent = page.evaluate("app.graphToPrompt().then(prompt => prompt.output)")
            plain = {number: {key: node[key] for key in ("class_type", "inputs")} for number, node in sent.items()}
            _check(f"{name}: what the browser would send is our API format", plain == api_format(workflow))
            time.sleep(1)  # the canvas is drawn
            (keep / f"{name}_screenshot.png").write_bytes(page.screenshot())
        _check_texts(page)
        workflow, pixels = images["plain"]
        _drop(page, png_with_workflow(Image.fromarray(pixels), workflow))
        page.wait_for(f"app.graph.nodes.length === {len(ui_format(workflow)['nodes'])}")
        before = set(comfyui.ask("/history"))
        page.evaluate("app.queuePrompt(0)")
        deadline = time.monotonic() + IMAGE_SECONDS
        while not (new := set(comfyui.ask("/history")) - before) and time.monotonic() < deadline:
            time.sleep(0.2)
        queued = comfyui.image(new.pop())
        _check("run from the browser, the image is the same", _difference(queued, pixels) == 0)


def _check_texts(page: Page) -> None:
    """Check that the browser part sends prompts with possible choices, comments or escapes unchanged."""
    for text in (
        "{a|b}",
        "\\}",
        "|_|",
        "\\m/",
        "a/b/*",
        "(a:1.2)",
        "\\(",
        "{{a}|",
        "<b> \"c\" 'd' 日",
    ):
        workflow = _workflow(positive=text)
        sent = page.evaluate(
            f"app.loadGraphData({json.dumps(ui_format(workflow))}).then(() => app.graphToPrompt())"
            ".then(prompt => Object.values(prompt.output).find(node => node._meta.title === 'Prompt').inputs.text)"
        )
        _check(f"the prompt {text!r} is sent as {sent!r}", sent == api_format(workflow)["6"]["inputs"]["text"])


def _drop(page: Page, png: bytes) -> None:
    """Hand a PNG to what ComfyUI calls with a dropped file."""
    text = base64.b64encode(png).decode()
    page.evaluate(
        f"app.handleFile(new File([Uint8Array.from(atob('{text}'), c => c.charCodeAt(0))], 'dropped.png', "
        "{type: 'image/png'}))"
    )


def _titles(page: Page) -> list[str]:
    return sorted(page.evaluate("app.graph.nodes.map(n => n.title)"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, metavar="CHECKOUT")
    parser.add_argument("--comfyui-python", metavar="PYTHON")
    parser.add_argument("--base", type=Path, metavar="FOLDER")
    parser.add_argument("--chromium", metavar="PROGRAM")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    return parser.parse_args()


if __name__ == "__main__":
    main()

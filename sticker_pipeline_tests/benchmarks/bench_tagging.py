"""Speed from frames to tags and captions: `python -m sticker_pipeline_tests.benchmarks.bench_tagging`.

The bound is bare onnxruntime on tensors that are already in memory; the difference is decoding, preprocessing and the
cache. Two taggers are measured. The shipped one is so small that decoding takes longer than the model. The other has
the input and output size of a real one, and random weights; it takes tens of milliseconds for an image.

The peer is the tagging script of kohya-ss/sd-scripts, from files to captions, in its own process: `--peer CHECKOUT
--peer-python PYTHON` (or the environment's SD_SCRIPTS and SD_SCRIPTS_PYTHON). PYTHON needs the script's imports, onnx
and onnxruntime. All have as many threads as onnxruntime chooses, and take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.tagging import wd14
from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.curation import curate
from sticker_pipeline.tagging.scoring import score_frames, tag_table
from sticker_pipeline.tagging.thresholds import Thresholds, mcut, per_frame
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "tagger"
SIDE = 240
ROUNDS = 5
TAGS, SIZE, PATCH, WIDTH, LAYERS = 10_861, 448, 16, 256, 12  # of the larger model; 10,861 tags are those of WD v3
Files = dict[str, tuple[Path, str]]


def main() -> None:
    """Print tables: stage, seconds, frames/s, ratio to bare onnxruntime or to the peer."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shipped = (SHIPPED / wd14.MODEL_FILE).is_file()
        small = SHIPPED if shipped else write_tagger(folder / "tagger", size=96)
        _against_the_bare_model(small, folder / "small", frames=512, batch=32)
        large = write_large_tagger(folder / "models" / "bench_large")
        _against_the_bare_model(large, folder / "large", frames=128, batch=16)
        _against_the_peer(large, folder / "large", arguments.peer, arguments.peer_python)
    _tables_of_many_frames()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=os.environ.get("SD_SCRIPTS"))
    parser.add_argument("--peer-python", type=Path, default=os.environ.get("SD_SCRIPTS_PYTHON"))
    return parser.parse_args()


# --- against the model alone


def _against_the_bare_model(model: Path, folder: Path, frames: int, batch: int) -> None:
    tagger = wd14.open_tagger(model, "cpu")
    print(
        f"{frames} frames of {SIDE} px, batch {batch}, tagger {model.name}: {tagger.size} px, {len(tagger.labels)} tags"
    )
    files = _write_frames(folder / "frames", frames)
    tensors = np.stack([_tensor(path, tagger.size) for path, _ in files.values()])
    batches = [tensors[start : start + batch] for start in range(0, frames, batch)]
    wd14.scores(tagger, batches[0])  # the first run allocates

    def bare() -> None:
        for one in batches:
            tagger.session.run(None, {tagger.input_name: one})

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            score_frames(files, tagger, Path(cache), batch)

    seconds = _in_turns({"bare onnxruntime, pre-loaded tensors": bare, "score_frames, from PNG files": ours})
    score_frames(files, tagger, folder / "cache", batch)
    seconds |= _in_turns({"score_frames, all cached": lambda: score_frames(files, tagger, folder / "cache", batch)})
    _print(seconds, frames, "bare onnxruntime, pre-loaded tensors", "bare")


# --- against another tagging script, end to end


def _against_the_peer(model: Path, folder: Path, checkout: Path | None, python: Path | None) -> None:
    script = Path(checkout or "", "finetune", "tag_images_by_wd14_tagger.py")
    if not checkout or not python or not script.is_file():
        print("no peer: name a checkout of sd-scripts with --peer, and its Python with --peer-python\n")
        return
    frames, files = folder / "frames", len(list((folder / "frames").glob("*.png")))
    theirs = [python.absolute(), script.absolute()]
    options = [frames, "--onnx", "--batch_size=16", "--model_dir", model.parent, "--repo_id", "bench/large"]
    ours = [sys.executable, "-m", f"{__package__}.tag_folder"]
    commands: dict[str, list[object]] = {
        "sd-scripts": [*theirs, *options],
        "sd-scripts, 2 loading processes": [*theirs, *options, "--max_data_loader_n_workers=2"],
        "sticker_pipeline": [*ours, frames, model, folder / "tags"],
    }
    print(f"{files} images to captions or tags, whole processes")
    whole = _in_turns({name: lambda line=line: _run(line, checkout) for name, line in commands.items()}, rounds=3)
    _print(whole, files, "sd-scripts", "sd-scripts")
    starting = _in_turns(
        {"sd-scripts": lambda: _run([*theirs, "--help"], checkout), "sticker_pipeline": lambda: _run(ours, checkout)}
    )
    print(
        ", ".join(
            f"{name} takes {statistics.median(found):.2f} s to start and import" for name, found in starting.items()
        )
    )
    start = {name: statistics.median(starting["sd-scripts" if "sd-s" in name else name]) for name in whole}
    work = {name: [seconds - start[name] for seconds in found] for name, found in whole.items()}
    print("the same without that")
    _print(work, files, "sd-scripts", "sd-scripts")


def _run(command: list[object], checkout: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    repository = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join((repository, str(checkout.absolute())))
    line = [str(part) for part in command]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr[-2000:]}")


# --- tables


def _tables_of_many_frames() -> None:
    scores = np.random.default_rng(0).random((2_000, TAGS), dtype=np.float32) ** 8
    labels = [wd14.Label(f"tag {number}", "general") for number in range(TAGS)]
    columns = wd14.category_columns(labels)
    names = [f"frame{number}" for number in range(len(scores))]
    limits = per_frame(Thresholds(0.9, 0.85), scores, columns)
    for name, work in {
        f"mcut, {len(scores)} frames x {TAGS} tags": lambda: mcut(scores),
        f"tag_table, {len(scores)} frames x {TAGS} tags": lambda: tag_table(names, scores, labels, limits),
    }.items():
        seconds = _seconds(work)
        print(f"{name:40} {seconds:8.2f} s {len(scores) / seconds:10.0f} frames/s")
    tags, frames = _random_tags(30_000, 30)
    seconds = _seconds(lambda: curate(tags, frames, {"art": Group()}, "trigger", Curation()))
    print(f"{'curate, 30,000 frames x 30 tags':40} {seconds:8.2f} s {30_000 / seconds:10.0f} frames/s")


def _in_turns(works: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each work in each round; a machine that is busy for a while slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(_seconds(work))
    return seconds


def _print(seconds: Mapping[str, list[float]], frames: int, reference: str, called: str) -> None:
    """Medians; the ratio is the median of those of each round."""
    for name, found in seconds.items():
        ratio = statistics.median(other / own for own, other in zip(found, seconds[reference], strict=True))
        middle = statistics.median(found)
        print(f"{name:40} {middle:8.2f} s {frames / middle:10.1f} frames/s   {ratio:8.2f} x {called}")
    print()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- what is measured on


def write_large_tagger(folder: Path) -> Path:
    """Write a tagger with a real one's input and output: patches, perceptron layers, mean, sigmoid.

    The weights are random. 5.1 billion multiplications for an image, a fifteenth of ViT-B/16 (78), the smallest of the
    v3 taggers: beside that one, decoding matters even less.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1 / np.sqrt(shape[0] if len(shape) == 2 else np.prod(shape[1:]))
        return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)

    tensors = [
        weights("patches", WIDTH, 3, PATCH, PATCH),
        weights("head", WIDTH, TAGS),
        numpy_helper.from_array(np.array([0, WIDTH, -1]), "tokens"),
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.array(255, dtype=np.float32), "white"),
    ]
    nodes = [
        helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["nchw", "white"], ["unit"]),
        helper.make_node("Conv", ["unit", "patches"], ["map"], strides=[PATCH, PATCH]),
        helper.make_node("Reshape", ["map", "tokens"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["x0"], perm=[0, 2, 1]),
    ]
    for layer in range(LAYERS):
        up, down, x = f"up{layer}", f"down{layer}", f"x{layer}"
        tensors += [weights(up, WIDTH, 4 * WIDTH), weights(down, 4 * WIDTH, WIDTH)]
        nodes += [
            helper.make_node("MatMul", [x, up], [f"wide{layer}"]),
            helper.make_node("Relu", [f"wide{layer}"], [f"bent{layer}"]),
            helper.make_node("MatMul", [f"bent{layer}", down], [f"back{layer}"]),
            helper.make_node("Add", [x, f"back{layer}"], [f"x{layer + 1}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", [f"x{LAYERS}", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", TAGS])],
        tensors,
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / wd14.MODEL_FILE))
    rows = [f"{i},{'rating' if i < 4 else 'tag'}_{i},{9 if i < 4 else 0},1" for i in range(TAGS)]
    text = "\n".join(["tag_id,name,category,count", *rows]) + "\n"
    (folder / wd14.LABELS_FILE).write_text(text, encoding="utf-8")
    return folder


def _write_frames(folder: Path, count: int) -> Files:
    """Sticker-like images: a few flat shapes on transparency, which compress as drawn stickers do."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    files = {}
    for number in range(count):
        image = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
        for _ in range(12):
            top, left, height, width = rng.integers(10, SIDE // 2, 4)
            image[top : top + height, left : left + width] = (*rng.integers(0, 256, 3), 255)
        path = folder / f"{number}.png"
        Image.fromarray(image).save(path)
        files[f"frame{number}"] = (path, pixel_sha256(image))
    return files


def _tensor(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        return wd14.preprocess(np.asarray(image.convert("RGBA")), size)


def _random_tags(frames: int, tags: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    names = np.array([row["tag"] for row in read_rows("categories.csv") if "*" not in row["tag"]])
    chosen = np.argsort(rng.random((frames, 300)), axis=1)[:, :tags].ravel()
    ids = np.array([f"frame{number}" for number in range(frames)], dtype=object)
    table = pd.DataFrame({"frame_id": np.repeat(ids, tags), "tag": names[chosen * 3], "category": "general"})
    sources = [f"clip{number // 20}" for number in range(frames)]
    return table.assign(score=rng.random(len(table)).astype(np.float32)), pd.DataFrame(
        {"frame_id": ids, "group": "art", "source_id": sources}
    )


if __name__ == "__main__":
    main()

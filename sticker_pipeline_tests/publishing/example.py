"""Artifacts of the demo characters without training: their media, and made-up tables.

The tables have the stages' schemas. `python -m sticker_pipeline_tests.publishing.example FOLDER` writes a report of
them.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from sticker_pipeline.benchmark.gate import ADVICE
from sticker_pipeline.benchmark.metrics import GAIN
from sticker_pipeline.benchmark.releases import publish, releases_folder, roll_back
from sticker_pipeline.benchmark.side_by_side import COMPARISONS
from sticker_pipeline.core.character import Character, load_character
from sticker_pipeline.core.profile import Profile, character_profile
from sticker_pipeline.core.storage import ArtifactStore, profile_scope, style_scope
from sticker_pipeline.generation.prompts import benchmark_prompts, join_tags
from sticker_pipeline.publishing.contents import LINE
from sticker_pipeline.publishing.report import Check
from sticker_pipeline.publishing.report_folder import write_report
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.some_table import write_rows

REPOSITORY = Path(__file__).resolve().parents[2]
RIVALS = ("tensorart", "civitai_v2")
MODELS = ("base", "lora", "released", *RIVALS)
START = datetime(2026, 9, 1, 12, tzinfo=UTC)
LEVEL = {"base": 0.42, "lora": 0.71, "released": 0.66, "tensorart": 0.69, "civitai_v2": 0.55, "reference": 0.83}


def demo_character(name: str, style: str | None = None) -> tuple[Character, Profile]:
    """The demo character, which names `style` as the one that it shares with others."""
    character = load_character(REPOSITORY / "data" / "characters" / name)
    character = replace(character, settings=character.settings.model_copy(update={"style": style}))
    return character, character_profile(character, REPOSITORY / "data" / "models")


def fill(
    store: ArtifactStore,
    character: Character,
    profile: Profile,
    *,
    upto: str = "benchmark",
    models: Sequence[str] = MODELS,
    seed: int = 0,
    sources: int | None = None,
) -> None:
    """Publish the artifacts of `character` from raw_media up to `upto`.

    Each group has its first `sources` files.
    """
    rng = np.random.default_rng(seed)
    versions: dict[str, str] = {}
    frames = _frames(character, sources)
    for asset in LINE[: LINE.index(upto) + 1]:
        inputs = {name: versions[name] for name in _inputs(asset)}
        with store.writing(character.name, asset) as staging:
            _WRITERS[asset](staging, frames, character, profile, models, rng)
            artifact = store.publish(staging, character.name, asset, code_version="1", inputs=inputs, settings={})
        versions[asset] = artifact.data_version


def fill_style(store: ArtifactStore, style: str, characters: Sequence[str]) -> None:
    """Publish a training set of `characters` for the style, and the choice of its LoRA's epoch."""
    scope = style_scope(style)
    with store.writing(scope, "style_training_set") as staging:
        write_rows(pd.DataFrame({"character": [name for name in characters for _ in range(3)]}), staging)
        made_of = store.publish(staging, scope, "style_training_set", code_version="1", inputs={}, settings={})
    with store.writing(scope, "selected_style_lora") as staging:
        write_rows(_style_choice(), staging)
        write_rows(_style_goal(), staging, "goal.parquet")
        Image.effect_noise((1140, 216), 60).convert("RGB").save(staging / "goal.png")
        inputs = {"style_training_set": made_of.data_version}
        store.publish(staging, scope, "selected_style_lora", code_version="1", inputs=inputs, settings={})


def _style_choice() -> pd.DataFrame:
    reasons = {
        0: "the base model, for comparison.",
        1: "not: its style similarity is 0.060 below that of epoch 3 (at least 0.031).",
        2: "chosen: the earliest that is as much in the style as any, and neither leaks nor disobeys.",
        3: "not: epoch 2 is as good, and earlier.",
    }
    similarity = np.array([0.31, 0.44, 0.50, 0.51])
    return pd.DataFrame(
        {
            "epoch": list(reasons),
            "style_similarity": similarity,
            "fidelity": [0.62, 0.61, 0.60, 0.55],
            "leaks": [0.0, 0.0, 0.08, 0.17],
            "copies": [0.0, 0.0, 0.0, 0.08],
            "behind": similarity.max() - similarity,
            "chosen": [epoch == 2 for epoch in reasons],
            "reason": list(reasons.values()),
        }
    )


def _style_goal() -> pd.DataFrame:
    rows = [
        ("base", "style_similarity", 0.30, 0.27, 0.33, 24),
        ("base", "fidelity", 0.61, 0.52, 0.70, 24),
        ("base", "leaks", 0.0, 0.0, 0.0, 24),
        ("lora", "style_similarity", 0.49, 0.45, 0.53, 24),
        ("lora", "fidelity", 0.59, 0.50, 0.68, 24),
        ("lora", "leaks", 0.125, 0.02, 0.23, 24),
        ("lora", "gain:style_similarity", 0.19, 0.15, 0.23, 24),
        ("lora", "gain:fidelity", -0.02, -0.08, 0.04, 24),
        ("lora", "gain:leaks", 0.125, 0.02, 0.23, 24),
        ("reference", "style_similarity", 0.58, 0.52, 0.64, 9),
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "mean", "ci_low", "ci_high", "n"])


def fill_few_steps(store: ArtifactStore, profile: str) -> None:
    """Publish the figures of an LCM-LoRA of the profile."""
    many, few = "base, steps: 25", "LCM-LoRA, steps: 4"
    rows = [
        (many, "seconds", 2.0, np.nan, np.nan, 24),
        (many, "unet_calls", 50.0, np.nan, np.nan, 24),
        (many, "likeness", 1.0, 1.0, 1.0, 24),
        (many, "fidelity", 0.8, 0.7, 0.9, 24),
        (many, "fidelity_change", 0.0, 0.0, 0.0, 24),
        (few, "seconds", 0.25, np.nan, np.nan, 24),
        (few, "unet_calls", 4.0, np.nan, np.nan, 24),
        (few, "likeness", 0.61, 0.55, 0.67, 24),
        (few, "fidelity", 0.75, 0.66, 0.84, 24),
        (few, "fidelity_change", -0.05, -0.1, 0.0, 24),
        (f"{many}, another seed", "likeness", 0.48, 0.40, 0.56, 24),
    ]
    scope = profile_scope(profile)
    with store.writing(scope, "lcm_lora") as staging:
        write_rows(pd.DataFrame(rows, columns=["model", "metric", "mean", "ci_low", "ci_high", "n"]), staging)
        (staging / "lcm.json").write_text(json.dumps({"guidance_scale": 2.0}))
        store.publish(staging, scope, "lcm_lora", code_version="1", inputs={}, settings={})


def example_checks(failed: bool = False, refused: bool = False) -> list[Check]:
    """`failed`: a frame shows somebody else; `refused`: the gate holds the new LoRA back."""
    return [
        Check("raw_media", "rejected_files", True, "every file is used whole, or ignored for a reason."),
        Check("frames", "different_enough", True, "19 sources are as different as 11.2 unrelated images"),
        Check(
            "frames", "same_character", not failed,
            "2 of 61 frames may show another character: gifs/dance.gif. Look at them, and remove those that do."
            if failed else "none of 61 frames looks like another character.",
        ),
        Check("frame_weights", "balanced", True, "61 frames count as 24.0 equal images; the groups are balanced."),
        Check("curated_tags", "trigger_clash", True, "no word of the trigger means anything to the base model."),
        Check("curated_tags", "universal_tags", None, ""),
        Check("training_set", "enough_images", True, "19 sources to train on.", blocking=True),
        Check(
            "benchmark", "better_than_base", True,
            "similarity above the base model's 0.290 [0.231, 0.347], must be > 0.", blocking=True,
        ),
        Check(
            "benchmark", "not_collapsed", not refused,
            f"sticker: nearest to one source 0.830, must be ≤ 0.500. {ADVICE['not_collapsed']}" if refused else
            "sticker: nearest to one source 0.210, must be ≤ 0.500.", blocking=True,
        ),
    ]  # fmt: skip


def release(store: ArtifactStore, name: str, count: int = 2) -> None:
    """Publish `count` releases of the character, a week apart.

    Roll back from the last where there are three.
    """
    folder = releases_folder(store, name)
    for number in range(1, count + 1):
        files = store.work(name, "candidate")
        made = candidate(files, f"{name} {number}".encode(), character=name, epoch=5 + number)
        publish(folder, made, START + timedelta(weeks=number))
    if count > 2:
        roll_back(folder, count - 1, "people find its eyes too large.", START + timedelta(weeks=count, days=2))


def _inputs(asset: str) -> tuple[str, ...]:
    deps: Mapping[str, tuple[str, ...]] = {
        "frames": ("raw_media",),
        "frame_weights": ("frames",),
        "wd14_tags": ("frames",),
        "curated_tags": ("wd14_tags", "frames", "raw_media"),
        "training_set": ("frames", "frame_weights", "curated_tags"),
        "lora": ("training_set", "frames"),
        "selected_lora": ("lora", "training_set", "frames"),
        "samples": ("selected_lora",),
        "benchmark": ("samples", "training_set", "frames"),
    }
    return deps.get(asset, ())


def _frames(character: Character, sources: int | None) -> pd.DataFrame:
    rows = []
    for group in character.groups:
        paths = (path for path in sorted((character.folder / group).rglob("*")) if path.is_file())
        for path in islice(paths, sources):
            with Image.open(path) as image:
                count = min(3, getattr(image, "n_frames", 1))
            source = path.relative_to(character.folder).as_posix()
            rows += [(f"{source}#{index}", source, group, source, index, True) for index in range(count)]
    table = pd.DataFrame(rows, columns=["frame_id", "path", "group", "source_id", "frame_index", "kept"])
    table["file"] = [f"files/{number:04d}.png" for number in range(len(table))]
    table["clip_number"] = table.groupby("group")["source_id"].transform(lambda sources: pd.factorize(sources)[0])
    return table


def _open(character: Character, row: Mapping[str, object]) -> Image.Image:
    image = Image.open(character.folder / str(row["path"]))
    image.seek(int(str(row["frame_index"])))
    return image.convert("RGBA")


def _write_raw_media(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    write_rows(pd.DataFrame({"path": frames["path"].unique(), "status": "accepted", "reason": ""}), staging)


def _write_frames(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    (staging / "files").mkdir()
    for row in frames.to_dict("records"):
        _open(character, row).save(staging / row["file"], compress_level=1)
    write_rows(frames, staging)


def _write_frame_weights(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    size = frames.groupby("source_id")["frame_id"].transform("size")
    probability = 1 / size / frames["source_id"].nunique()
    table = frames[["frame_id", "group", "source_id"]].assign(
        probability=probability, samples_per_epoch=300 * probability
    )
    write_rows(table, staging)


TAGS = (
    *("solo", "smile", "open mouth", "looking at viewer", "upper body", "simple background", "closed eyes", "blush"),
    *(
        "full body",
        "arms up",
        "waving",
        "crying",
        "angry",
        "^_^",
        "one eye closed",
        "holding",
        "star (symbol)",
        "heart",
    ),
    *("blue hair", "yellow eyes", "bob cut", "headphones", "hoodie", "chibi", "speech bubble", "food", "night sky"),
)
DROPPED = (*TAGS[18:24], "solo")


def _tagged(frames: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = []
    for number, frame in enumerate(frames["frame_id"]):
        pairs += [(frame, tag) for place, tag in enumerate(TAGS) if (number * 7 + place * 3) % (place + 2) < 2]
    return pairs


def _write_wd14_tags(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    table = pd.DataFrame(_tagged(frames), columns=["frame_id", "tag"]).assign(category="general", score=0.8)
    write_rows(table, staging)


def _write_curated_tags(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    tags = pd.DataFrame(_tagged(frames), columns=["frame_id", "tag"])
    gone = tags["tag"].isin(DROPPED)
    kept = tags[~gone].groupby("frame_id")["tag"].agg(list)
    captions = [[character.trigger, *kept.get(frame, [])] for frame in frames["frame_id"]]
    table = pd.DataFrame({"frame_id": frames["frame_id"], "caption": [", ".join(words) for words in captions]})
    write_rows(table.assign(n_tags=[len(words) for words in captions]), staging)
    reasons = tags.loc[gone, "tag"].map(lambda tag: "blacklisted" if tag == "solo" else "inherent: listed")
    write_rows(tags[gone].assign(reason=reasons), staging, "dropped.parquet")


def _write_training_set(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    split = np.where(frames["clip_number"] % 3 == 1, "holdout", "train")
    write_rows(frames[["frame_id", "file"]].assign(split=split), staging)


def _write_lora(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    steps = np.arange(1, 641)
    cycle = (steps - 1) % 160
    rate = 1e-4 * np.where(cycle < 16, cycle / 16, 0.5 * (1 + np.cos(np.pi * (cycle - 16) / 144)))
    log = pd.DataFrame(
        {
            "step": steps,
            "epoch": (steps - 1) // 80 + 1,
            "loss": 0.11 + 0.12 * np.exp(-steps / 150) + rng.normal(0, 0.02, len(steps)),
            "lr_unet": rate,
            "lr_text_encoder": rate / 2,
            "seconds": 0.2,
        }
    )
    write_rows(log, staging, "log.parquet")
    epochs = np.arange(0, 9)
    fixed = [
        pd.DataFrame({"epoch": epochs, "split": "train", "loss": 0.10 + 0.10 * np.exp(-epochs / 3)}),
        pd.DataFrame({"epoch": epochs, "split": "validation", "loss": 0.12 + 0.09 * np.exp(-epochs / 2)}),
        pd.DataFrame({"epoch": epochs, "split": "holdout", "loss": 0.13 + 0.08 * np.exp(-epochs / 2) + 0.002 * epochs}),
    ]
    write_rows(pd.concat(fixed), staging, "validation_loss.parquet")


def _write_selected_lora(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    rows = []
    for epoch in range(1, 9):
        similarity = 0.5 + 0.22 * (1 - np.exp(-epoch / 2)) - 0.004 * max(0, epoch - 6)
        metrics = {
            "clip_similarity": similarity,
            "clip_similarity_low": similarity - 0.03,
            "clip_similarity_high": similarity + 0.03,
            "diversity": 0.4 - 0.02 * epoch,
            "nearest_training": 0.6 + 0.03 * epoch,
            "copies": 0.004 * epoch**2,
        }
        reason = "chosen: the lowest loss on validation images (0.1421) of the epochs that do not copy."
        if epoch != 6:
            reason = f"not: its similarity {similarity:.3f} is below 0.670, the lower end of the interval of epoch 7."
        rows.append((epoch, json.dumps(metrics), epoch == 6, reason))
    write_rows(pd.DataFrame(rows, columns=["epoch", "metrics", "chosen", "reason"]), staging)
    (staging / "lora.safetensors").write_bytes(rng.bytes(64))


def _write_samples(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    """Write media of the character as its LoRA's samples, blurred ones as the base model's.

    Each rival is asked by a trigger of its own.
    """
    prompts = benchmark_prompts(character, profile)
    styles = {name: group.medium for name, group in character.groups.items()}
    rows = []
    for model in models:
        (staging / model).mkdir()
        for number, prompt in enumerate(prompts):
            own = frames[(frames["group"].map(styles) == prompt.medium) & (frames["frame_index"] == 0)]
            row = own.iloc[(number * 3 + len(model)) % len(own)].to_dict()
            image = Image.new("RGB", (96, 96), "white")
            drawn = _open(character, row).resize((96, 96), Image.Resampling.LANCZOS)
            image.paste(drawn, (0, 0), drawn)
            image = image.filter(ImageFilter.GaussianBlur({"base": 5, "civitai_v2": 2.5}.get(model, 0.6)))
            name = f"{model}/{prompt.medium}_{number:03d}.png"
            image.save(staging / name, compress_level=1)
            told = join_tags([f"{model}_{character.name}", prompt.attributes]) if model in RIVALS else prompt.text
            rows.append((f"{model}-{number}", model, prompt.medium, told, prompt.attributes, 1000 + number, name))
    columns = ["image", "model", "medium", "prompt", "attributes", "seed", "file"]
    write_rows(pd.DataFrame(rows, columns=columns), staging)


def _write_benchmark(staging, frames, character, profile, models, rng) -> None:  # type: ignore[no-untyped-def]
    rows = []
    for style in ["all", *sorted({group.medium for group in character.groups.values()})]:
        shift = rng.normal(0, 0.05)
        for model in (*models, "reference"):
            mean = LEVEL[model] + shift
            own = {"clip_similarity": mean, "diversity": 0.3 - mean / 5, "nearest_training": mean + 0.06}
            if model != "base":
                own |= {"identity": min(0.97, mean + 0.2)}
            if model not in ("base", "reference"):
                own |= {"clip_similarity_gain": mean - LEVEL["base"] - shift - rng.uniform(0, 0.1)}
            if model != "reference":
                own |= {"copies": mean / 6, "one_source_share": 0.2, "prompt_fidelity": 0.8 - mean / 4}
            rows += [(model, style, metric, value, value - 0.03, value + 0.028, 32) for metric, value in own.items()]
        rows.append(("chance", style, "identity", 1 / 3, np.nan, np.nan, 3))
    columns = ["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    write_rows(table, staging)
    write_rows(_compared(table), staging, COMPARISONS.file)


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """The LoRA less each other model, with intervals of one width."""
    keys = ["medium", "metric"]
    measured = table[(table["metric"] != GAIN) & ~table["model"].isin(["reference", "chance"])]
    ours, others = (measured[part] for part in (measured["model"] == "lora", measured["model"] != "lora"))
    pairs = others.merge(ours[[*keys, "mean"]], on=keys, suffixes=("", "_ours"))
    difference = pairs["mean_ours"] - pairs["mean"]
    found = pairs.assign(
        other=pairs["model"], model="lora", difference=difference, ci_low=difference - 0.04, ci_high=difference + 0.04
    )
    return found[COMPARISONS.names]


_WRITERS = {
    "raw_media": _write_raw_media,
    "frames": _write_frames,
    "frame_weights": _write_frame_weights,
    "wd14_tags": _write_wd14_tags,
    "curated_tags": _write_curated_tags,
    "training_set": _write_training_set,
    "lora": _write_lora,
    "selected_lora": _write_selected_lora,
    "samples": _write_samples,
    "benchmark": _write_benchmark,
}


def main(target: Path) -> None:
    demo = [demo_character(name, "chibi") for name in ("bram_thistle", "pip_comet", "velvet_moth")]
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder))
        fill(store, *demo[0], seed=1)
        fill(store, *demo[1], seed=2, models=MODELS[:4])
        fill(store, *demo[1], upto="curated_tags", sources=9)  # what was made of the former tags is outdated
        fill(store, *demo[2], upto="curated_tags")
        fill_style(store, "chibi", ["bram_thistle", "pip_comet"])
        fill_few_steps(store, "embedded")
        release(store, "bram_thistle", 3)
        release(store, "pip_comet", 1)
        target.mkdir(parents=True, exist_ok=True)
        write_report(
            store,
            target,
            demo,
            checks={"bram_thistle": example_checks(refused=True), "pip_comet": example_checks(failed=True)},
            ui="http://127.0.0.1:3000",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A release's model card: Markdown with the Hugging Face hub's front matter.

It states the measured and the unchecked. The licence is left to the publisher.
"""

import math

import yaml

from sticker_pipeline.benchmark.measure import BASE, FEW_SOURCES, LORA, OVERALL, REFERENCE, RELEASED
from sticker_pipeline.benchmark.metrics import METRICS, described, trigger_note, written
from sticker_pipeline.benchmark.releases import MetricRow, Record, Release, SamplingRecord
from sticker_pipeline.core import markdown
from sticker_pipeline.core.markdown import code, code_block, literal
from sticker_pipeline.publishing.base_name import BaseName, how_to_use

FILE_NAME = "README.md"
FAMILY_TAGS = {"sd15": "stable-diffusion", "sdxl": "stable-diffusion-xl"}
MODEL_NAMES = {LORA: "this LoRA", BASE: "base model", RELEASED: "baseline release", REFERENCE: "held-out images"}
READING = """\
Means with 95 % bootstrap intervals, on the same prompts and seeds for every model. Cosines are those of CLIP
embeddings. The column of the held-out images compares them with each other."""


def model_card(release: Release, base: BaseName) -> str:
    """Return the card as text, ending with a line break.

    Equal releases and bases give equal cards, without local paths.
    """
    return f"---\n{_front_matter(release.record, base)}---\n\n{card_text(release, base)}"


def card_text(release: Release, base: BaseName) -> str:
    record = release.record
    banner = f"\n\n> **{base.toy}**" if base.toy else ""
    trigger = f"\n\n**{note}**" if (note := _trigger_note(record.metrics)) else ""
    sections = [
        f"# {literal(record.character)}\n\nA LoRA of one character for {base.title}: "
        f"release {record.number}, {record.published:%Y-%m-%d}.{banner}",
        f"## How to use it\n\n{_usage(record, base)}",
        f"## How good it is\n\n{READING}\n\n{_table(record.metrics)}{trigger}\n\n{_meanings(record.metrics)}",
        f"## What was checked\n\n{_checks(record)}",
        f"## Limits\n\n{_limits(record)}",
        f"## How it was made\n\n{_making(release)}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(record: Record, base: BaseName) -> str:
    """Return the front matter, without a base model that others lack."""
    family = [] if base.toy else [FAMILY_TAGS[record.family]]
    values = {
        **({"base_model": base.hub} if base.hub else {}),
        **({} if base.toy else {"library_name": "diffusers"}),
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "lora", *family, "template:sd-lora"],
        "instance_prompt": record.trigger,
        "widget": [{"text": prompt} for prompt in record.sampling.prompts],
    }
    text: str = yaml.dump(values, Dumper=_OneLine, sort_keys=False, allow_unicode=True, width=float("inf"))
    return text


class _OneLine(yaml.SafeDumper):
    """Dumper that writes each text on one line.

    A line `---` could end the front matter.
    """


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Represent text, quoted unless all YAML readers agree without quotes.

    A line beginning with a letter is never a number, `---` or a comment.
    """
    plain = text[:1].isalpha() and text.splitlines() == [text]
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_OneLine.add_representer(str, _quoted)


def _usage(record: Record, base: BaseName) -> str:
    sampling = record.sampling
    return (
        f"{how_to_use(record, base)}\n\n"
        f"- File: {code(record.file)} (kohya format, SHA-256 `{record.sha256}`)\n"
        f"- Base model: {base.words}\n"
        f"- Trigger: begin the prompt with {code(record.trigger)}\n"
        f"- {_sampling_line(sampling)}\n\n"
        f"Prompts of the benchmark:\n\n{code_block(sampling.prompts)}"
    )


def _sampling_line(sampling: SamplingRecord) -> str:
    negative = f", negative prompt {code(sampling.negative_prompt)}" if sampling.negative_prompt else ""
    return (
        f"Sampled in the benchmark with strength {sampling.strength:g}, {sampling.scheduler}, {sampling.steps} steps, "
        f"CFG {sampling.guidance_scale:g}, {sampling.resolution} × {sampling.resolution} pixels{negative}"
    )


def _table(metrics: list[MetricRow]) -> str:
    """Return a table: one row per metric and medium, columns are models."""
    cells = {(figure.metric, figure.medium, figure.model): figure for figure in metrics}
    present = list(dict.fromkeys(figure.model for figure in metrics))
    models = [
        *(name for name in MODEL_NAMES if name in present),
        *(name for name in present if name not in MODEL_NAMES),
    ]
    rows = dict.fromkeys(sorted(((f.metric, f.medium) for f in metrics), key=lambda row: (_rank(row[0]), row[1])))
    header = ["", "medium", *(MODEL_NAMES.get(name) or literal(name) for name in models)]
    lines = [
        [
            literal(described(metric).title),
            literal(medium),
            *(_cell(cells.get((metric, medium, model))) for model in models),
        ]
        for metric, medium in rows
    ]
    ruled = [header, ["---", "---", *["---:"] * len(models)], *lines]
    return markdown.table(ruled)


def _trigger_note(metrics: list[MetricRow]) -> str:
    ours = [row for row in metrics if (row.model, row.medium) == (LORA, OVERALL)]
    return trigger_note({row.metric: row.ci_low for row in ours})


def _meanings(metrics: list[MetricRow]) -> str:
    """Return a line per metric: meaning and better direction."""
    present = {figure.metric for figure in metrics}
    return "\n".join(
        f"- {row.title}: {row.meaning}" + (f" ({row.better} is better)" if row.better else "")
        for row in METRICS.values()
        if row.name in present
    )


def _rank(metric: str) -> tuple[int, str]:
    names = list(METRICS)
    return (names.index(metric), "") if metric in METRICS else (len(names), metric)


def _cell(figure: MetricRow | None) -> str:
    if figure is None or figure.mean is None:
        return "–"
    low, high = (math.nan if bound is None else bound for bound in (figure.ci_low, figure.ci_high))
    return written(figure.mean, low, high, described(figure.metric).form)


def _checks(record: Record) -> str:
    return "\n".join(f"- `{check.name}`: {literal(check.summary)}" for check in record.checks)


def _limits(record: Record) -> str:
    unchecked = [check.name for check in record.checks if not check.checked]
    data = record.data
    limits = [
        f"It was trained on {data.images} images of {data.sources} sources, and on nothing else of the character.",
        "The metrics hold for the prompts above, this base model and this CLIP. The intervals cover other seeds "
        "and other held-out images, not other prompts or other base models.",
    ]
    if data.holdout_sources < FEW_SOURCES:
        limits.append(
            f"Only {data.holdout_sources} sources are held out: the intervals are narrower than they should be."
        )
    if unchecked:
        limits.append(f"Not checked, or only in part: {', '.join(f'`{name}`' for name in unchecked)}.")
    return "\n".join(f"- {sentence}" for sentence in limits)


def _making(release: Release) -> str:
    record, spec = release.record, release.spec()
    settings, data = spec["settings"], record.data
    lines = [
        f"- Data: {data.images} images of {data.sources} sources trained on; {data.holdout_images} of "
        f"{data.holdout_sources} held out",
        f"- Network: rank {settings['rank']}, alpha {settings['alpha']:g}; trained at {spec['resolution']} pixels",
        f"- Training: {settings['epochs']} epochs, batches of {settings['batch_size']}, {settings['optimizer']}, "
        f"learning rate {settings['learning_rate_unet']:g} (U-Net) and "
        f"{settings['learning_rate_text_encoder']:g} (text encoder)",
        f"- Epoch {record.epoch}, {literal(record.why_epoch)}",
        f"- By sticker_pipeline, profile {code(record.profile)}; every setting is in `spec.json`",
    ]
    if record.previous is not None:
        lines.append(f"- It replaced release {record.previous}")
    versions = "\n".join(f"| `{name}` | `{version}` |" for name, version in sorted(record.inputs.items()))
    return "\n".join(lines) + f"\n\n| made of | data version |\n| --- | --- |\n{versions}"

"""Measurement of a sweep's images, and the chart of quality against seconds.

The table is in sweep.py, the choice of a setting in recommend.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Embeddings, Requests
from sticker_pipeline.benchmark.features import by_medium, tags_found_in
from sticker_pipeline.benchmark.similarity import source_means
from sticker_pipeline.benchmark.sweep import Seen, Timed, sweep_table
from sticker_pipeline.benchmark.tone import Tones, tones
from sticker_pipeline.core.images import front_chart
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.generation.sampling_config import Cell, drawn_with, reference_of
from sticker_pipeline.generation.sweep import SweepPlan
from sticker_pipeline.tagging.wd14 import Tagger


def measured_sweep(
    plan: SweepPlan,
    seen: Mapping[Cell, Mapping[str, Seen]],
    seconds: Mapping[Cell, float],
    references: Mapping[str, Embeddings],
    trained: Embeddings,
    tagger: Tagger,
    profile: Profile,
) -> pd.DataFrame:
    """Return the table of the sweep (`sweep_table`).

    references: medium -> held-out images.
    """
    generation = profile.generation
    asked = by_medium(np.arange(len(plan.requests)), [request.medium for request in plan.requests])
    return sweep_table(
        seen,
        {cell: reference_of(cell, generation) for cell in plan.cells},
        {cell: Timed(drawn_with(cell, generation).scheduler, seconds[cell]) for cell in plan.cells},
        {medium: source_means(found.vectors, found.sources) for medium, found in references.items()},
        {medium: _requests(plan, numbers) for medium, numbers in asked.items()},
        [label.name for label in tagger.labels],
        trained,
        samples=profile.benchmark.bootstrap_samples,
    )


def seen_images(
    plan: SweepPlan,
    files: Mapping[Cell, Sequence[Path]],
    folder: Path,
    embedder: Embedder,
    tagger: Tagger,
    profile: Profile,
    store: ArtifactStore,
) -> dict[Cell, dict[str, Seen]]:
    """Cell -> medium -> features of its `files` in `folder`: embeddings, tags, tones."""
    found = tags_found_in(tagger, profile, store, folder, [path.name for paths in files.values() for path in paths])
    tags = dict(zip(files, np.split(found, len(files)), strict=True))
    mediums = [request.medium for request in plan.requests]
    seen = {}
    for cell, paths in files.items():
        embeddings = by_medium(embed(embedder, (Image.open(path) for path in paths)), mediums)
        tagged = by_medium(tags[cell], mediums)
        colours = vars(tones([Image.open(path) for path in paths]))
        parts = {name: by_medium(values, mediums) for name, values in colours.items()}
        seen[cell] = {
            medium: Seen(own, tagged[medium], Tones(**{name: part[medium] for name, part in parts.items()}))
            for medium, own in embeddings.items()
        }
    return seen


def front(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows on the Pareto front, the fastest first."""
    return rows[rows["pareto"]].sort_values("seconds")


def pareto_chart(rows: pd.DataFrame) -> Image.Image:
    """Chart quality against seconds of all settings, the front ringed."""
    ringed = front(rows)
    points = {
        f"{'LCM, ' if lcm else ''}{steps} steps": (part["seconds"].to_numpy(), part["quality"].to_numpy())
        for (lcm, steps), part in rows.groupby([rows["lcm_weight"] > 0, "steps"])
    }
    return front_chart(
        points,
        (ringed["seconds"].to_numpy(), ringed["quality"].to_numpy()),
        title="quality against seconds; the Pareto front is ringed",
        x="seconds of an image",
        y="root of similarity × fidelity",
    )


def _requests(plan: SweepPlan, numbers: np.ndarray) -> Requests:
    return Requests(
        [plan.attributes[number] for number in numbers], [plan.requests[number].prompt for number in numbers]
    )

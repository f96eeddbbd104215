"""Measurement of a sampling grid, and the chart of quality against seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.benchmark.evaluation import Embeddings, Requests
from sticker_pipeline.benchmark.features import by_medium, tags_found_in
from sticker_pipeline.benchmark.grid_table import PointFeatures, Timed, grid_table
from sticker_pipeline.benchmark.similarity import source_means
from sticker_pipeline.benchmark.tone import Tones, tones
from sticker_pipeline.core.images import front_chart
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.texts import counted
from sticker_pipeline.generation.grid_points import GridPoint, reference_of, settings_at
from sticker_pipeline.generation.sampling_grid import GridPlan
from sticker_pipeline.tagging.wd14 import Tagger


def measured_grid(
    plan: GridPlan,
    features: Mapping[GridPoint, Mapping[str, PointFeatures]],
    seconds: Mapping[GridPoint, float],
    references: Mapping[str, Embeddings],
    trained: Embeddings,
    tagger: Tagger,
    profile: Profile,
) -> pd.DataFrame:
    """The table of the grid; references: medium -> held-out images."""
    generation = profile.generation
    asked = by_medium(np.arange(len(plan.requests)), [request.medium for request in plan.requests])
    return grid_table(
        features,
        {point: reference_of(point, generation) for point in plan.points},
        {point: Timed(settings_at(point, generation).scheduler, seconds[point]) for point in plan.points},
        {medium: source_means(found.vectors, found.sources) for medium, found in references.items()},
        {medium: _requests(plan, numbers) for medium, numbers in asked.items()},
        [label.name for label in tagger.labels],
        trained,
        samples=profile.benchmark.bootstrap_samples,
    )


def features_of_grid(
    plan: GridPlan,
    files: Mapping[GridPoint, Sequence[Path]],
    folder: Path,
    embedder: Embedder,
    tagger: Tagger,
    profile: Profile,
    store: ArtifactStore,
) -> dict[GridPoint, dict[str, PointFeatures]]:
    """GridPoint -> medium -> features of its `files` in `folder`: embeddings, tags, tones."""
    found = tags_found_in(tagger, profile, store, folder, [path.name for paths in files.values() for path in paths])
    tags = dict(zip(files, np.split(found, len(files)), strict=True))
    mediums = [request.medium for request in plan.requests]
    features = {}
    for point, paths in files.items():
        embeddings = by_medium(embed(embedder, (Image.open(path) for path in paths)), mediums)
        tagged = by_medium(tags[point], mediums)
        colours = vars(tones([Image.open(path) for path in paths]))
        parts = {name: by_medium(values, mediums) for name, values in colours.items()}
        features[point] = {
            medium: PointFeatures(own, tagged[medium], Tones(**{name: part[medium] for name, part in parts.items()}))
            for medium, own in embeddings.items()
        }
    return features


def front(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows on the Pareto front, the fastest first."""
    return rows[rows["pareto"]].sort_values("seconds")


def pareto_chart(rows: pd.DataFrame) -> Image.Image:
    """Chart quality against seconds of all settings, the front ringed."""
    ringed = front(rows)
    points = {
        f"{'LCM, ' if lcm else ''}{counted(int(part['steps'].iloc[0]), 'step')}": (
            part["seconds"].to_numpy(),
            part["quality"].to_numpy(),
        )
        for (lcm, _), part in rows.groupby([rows["lcm_weight"] > 0, "steps"])
    }
    return front_chart(
        points,
        (ringed["seconds"].to_numpy(), ringed["quality"].to_numpy()),
        title="quality against seconds; the Pareto front is ringed",
        x="seconds of an image",
        y="root of similarity × fidelity",
    )


def _requests(plan: GridPlan, numbers: np.ndarray) -> Requests:
    return Requests(
        [plan.attributes[number] for number in numbers], [plan.requests[number].prompt for number in numbers]
    )

"""Plan of a sampling grid, and its contact sheets."""

from pathlib import Path

import pytest
from PIL import Image

from sticker_pipeline.core.settings import GenerationSettings, SamplingGridSettings
from sticker_pipeline.generation.grid_points import Adapters, GridPoint, SamplingGridError
from sticker_pipeline.generation.prompts import Prompt, first_of_each_medium
from sticker_pipeline.generation.sampling_grid import grid_sheets, plan_grid

GENERATION = GenerationSettings(steps=10, guidance_scale=4.0)
SETTINGS = SamplingGridSettings(
    style_weights=(0.0, 1.0),
    character_weights=(0.5, 1.0),
    lcm_weights=(0.0, 1.0),
    steps=(2,),
    guidance_scales=(1.0, 4.0),
    prompts_per_medium=1,
    seeds_per_prompt=2,
)
PROMPTS = [Prompt(medium, f"{medium} {asked}", asked) for medium in ("art", "sticker") for asked in ("smile", "angry")]


def test_every_cell_has_what_it_is_held_against_and_the_same_requests() -> None:
    plan = plan_grid(Adapters(Path("c")), PROMPTS, ["sticker", "art"], SETTINGS, GENERATION)
    assert plan.grid == [GridPoint(0.0, weight, 0.0, 2, scale) for weight in (0.5, 1.0) for scale in (1.0, 4.0)]
    assert plan.points == [*plan.grid, GridPoint(0.0, 0.5, 0.0, 10, 4.0), GridPoint(0.0, 1.0, 0.0, 10, 4.0)]
    assert [request.prompt for request in plan.requests] == ["sticker smile"] * 2 + ["art smile"] * 2
    assert plan.attributes == ["smile"] * 4
    assert plan.images == 6 * 4
    assert plan.axis("character_weight") == [0.5, 1.0] and plan.axis("steps") == [2]


def test_a_plan_that_is_too_large_is_refused() -> None:
    small = SETTINGS.model_copy(update={"most_images": 23})
    with pytest.raises(SamplingGridError, match="6 settings of 4 images each, 24 in all"):
        plan_grid(Adapters(Path("c")), PROMPTS, ["art", "sticker"], small, GENERATION)


def test_prompts_are_taken_medium_by_medium() -> None:
    assert first_of_each_medium(PROMPTS, ["sticker", "none"], 1) == [PROMPTS[2]]
    assert first_of_each_medium(PROMPTS, ["art"], 5) == PROMPTS[:2]


def test_there_is_a_grid_for_each_medium_and_weight_with_each_setting_in_its_place(tmp_path: Path) -> None:
    adapters = Adapters(Path("c"), style=Path("s"), lcm=Path("l"))
    plan = plan_grid(adapters, PROMPTS, ["art", "sticker"], SETTINGS, GENERATION)
    files = {}
    for number, point in enumerate(plan.points):
        files[point] = [tmp_path / f"{number}_{place}.png" for place in range(len(plan.requests))]
        for place, path in enumerate(files[point]):
            Image.new("RGB", (8, 8), (10 * number, 60 * place, 0)).save(path)
    grids = grid_sheets(plan, files)
    assert list(grids) == [f"grid_{medium}_style_{weight}" for weight in (0, 1) for medium in ("art", "sticker")]
    grid = grids["grid_sticker_style_1"]
    left, top, side = 84, 4 + 12 * 2, 100
    assert grid.size == (left + 4 * side, top + 2 * side)
    for row, scale in enumerate((1.0, 4.0)):
        for column, (lcm, weight) in enumerate(((0.0, 0.5), (0.0, 1.0), (1.0, 0.5), (1.0, 1.0))):
            number = plan.points.index(GridPoint(1.0, weight, lcm, 2, scale))
            middle = grid.getpixel((left + column * side + 50, top + row * side + 48))
            assert middle == (10 * number, 60 * 2, 0)  # the first request of the second medium is the third

"""Points of a sampling grid: every combination once, without missing adapters."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sticker_pipeline.core.settings import GenerationSettings, SamplingGridSettings
from sticker_pipeline.generation.grid_points import (
    Adapters,
    GridPoint,
    SamplingGridError,
    check_size,
    grid,
    grid_size,
    loras_at,
    reference_of,
    settings_at,
)

SMALL = SamplingGridSettings(
    style_weights=(0.0, 0.5),
    character_weights=(1.0, 0.6),
    lcm_weights=(0.0, 1.0),
    steps=(8, 2),
    guidance_scales=(1.0,),
)
GENERATION = GenerationSettings(steps=10, guidance_scale=4.0)


def test_every_combination_once_in_order() -> None:
    points = grid(SMALL, style=True, lcm=True)
    assert len(points) == len(set(points)) == 2 * 2 * 2 * 2
    assert points[:3] == [
        GridPoint(0.0, 0.6, 0.0, 2, 1.0),
        GridPoint(0.0, 0.6, 0.0, 8, 1.0),
        GridPoint(0.0, 0.6, 1.0, 2, 1.0),
    ]
    assert points[-1] == GridPoint(0.5, 1.0, 1.0, 8, 1.0)


@pytest.mark.parametrize(("style", "lcm", "count"), [(False, False, 4), (True, False, 8), (False, True, 8)])
def test_axes_of_adapters_that_do_not_exist_are_zero(style: bool, lcm: bool, count: int) -> None:
    points = grid(SMALL, style=style, lcm=lcm)
    assert len(points) == count
    assert style or {point.style_weight for point in points} == {0.0}
    assert lcm or {point.lcm_weight for point in points} == {0.0}


def test_a_cell_is_held_against_the_profiles_own_way_of_drawing() -> None:
    assert reference_of(GridPoint(0.5, 0.6, 1.0, 2, 1.0), GENERATION) == GridPoint(0.5, 0.6, 0.0, 10, 4.0)
    reference = GridPoint(0.5, 0.6, 0.0, 10, 4.0)
    assert reference_of(reference, GENERATION) == reference
    assert settings_at(reference, GENERATION) == GENERATION


def test_lcm_has_a_sampler_of_its_own() -> None:
    with_lcm, without = (settings_at(GridPoint(0.0, 1.0, weight, 4, 1.5), GENERATION) for weight in (0.5, 0.0))
    assert (with_lcm.scheduler, with_lcm.steps, with_lcm.guidance_scale) == ("lcm", 4, 1.5)
    assert (without.scheduler, without.steps, without.guidance_scale) == (GENERATION.scheduler, 4, 1.5)
    assert with_lcm.batch_size == GENERATION.batch_size


def test_loras_are_applied_in_one_order_and_without_a_weight_not_at_all() -> None:
    character, style, lcm = (Path(f"{name}.safetensors") for name in ("character", "style", "lcm"))
    full, every = GridPoint(0.5, 0.6, 1.0, 4, 1.0), Adapters(character, style, lcm)
    assert loras_at(full, every) == [(style, 0.5), (character, 0.6), (lcm, 1.0)]
    assert loras_at(full, Adapters(character)) == [(character, 0.6)]
    assert loras_at(GridPoint(0.0, 1.0, 0.0, 4, 1.0), every) == [(character, 1.0)]


def test_too_many_images_are_refused_with_their_number() -> None:
    settings = SMALL.model_copy(update={"most_images": 100})
    check_size(10, 10, settings)
    with pytest.raises(
        SamplingGridError, match=r"10 settings of 11 images each, 110 in all, and sampling_grid.most_images is 100"
    ):
        check_size(10, 11, settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": []},
        {"steps": [0]},
        {"steps": [4, 4]},
        {"character_weights": [2.5]},
        {"lcm_weights": [-0.1]},
        {"guidance_scales": [0.5]},
        {"guidance_scales": [float("inf")]},
        {"style_weight": [1.0]},
    ],
)
def test_axes_that_make_no_sense_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SamplingGridSettings.model_validate(wrong)


def test_values_are_sorted_so_that_their_order_changes_nothing() -> None:
    assert SMALL.steps == (2, 8) and SMALL.character_weights == (0.6, 1.0)


@pytest.mark.parametrize("style", [False, True])
@pytest.mark.parametrize("lcm", [False, True])
def test_the_size_of_a_grid_is_known_before_it_is_listed(style: bool, lcm: bool) -> None:
    settings = SamplingGridSettings(style_weights=(0, 1), lcm_weights=(0, 0.5, 1), steps=(2, 4, 8, 9, 10))
    assert grid_size(settings, style=style, lcm=lcm) == len(grid(settings, style=style, lcm=lcm))
    many = SamplingGridSettings(
        steps=tuple(range(1, 201)), character_weights=tuple(number / 1e4 for number in range(10**4))
    )
    assert grid_size(many, style=False, lcm=False) == 200 * 10**4 * 2

import pytest
import torch
from diffusers.training_utils import EMAModel

from sticker_pipeline.training.ema import (
    average_tensors,
    averaged,
    decay_at,
    load_average,
    moving_average,
    update,
)


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 2), (5,))]


def moved(weights: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator))


def test_decay_grows_to_its_value() -> None:
    assert [decay_at(n, 0.9) for n in (0, 1, 8, 80, 81)] == pytest.approx([0.0, 2 / 11, 0.5, 0.9, 0.9])


def test_an_average_by_hand() -> None:
    (weight,) = weights = [torch.nn.Parameter(torch.tensor([10.0]))]
    average = moving_average(weights, 0.1)
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
        update(average, weights)
    # the first update takes all of it; 2/11 and 3/12 are above the decay
    assert average.values[0].item() == pytest.approx(0.1 * (0.1 * 1.0 + 0.9 * 2.0) + 0.9 * 4.0)
    assert average.updates == 3


def test_an_average_is_that_of_diffusers() -> None:
    weights = parameters()
    average, theirs = moving_average(weights, 0.7), EMAModel(weights, decay=0.7)
    for seed in range(40):
        moved(weights, seed)
        update(average, weights)
        theirs.step(weights)
    for ours, other in zip(average.values, theirs.shadow_params, strict=True):
        assert torch.allclose(ours, other, atol=1e-6)


def test_the_average_takes_the_place_of_the_weights_for_a_while() -> None:
    weights = parameters()
    average = moving_average(weights, 0.9)
    for seed in range(3):
        moved(weights, seed)
        update(average, weights)
    before = [weight.detach().clone() for weight in weights]
    with pytest.raises(KeyError), averaged(average, weights):
        assert all(torch.equal(weight, value) for weight, value in zip(weights, average.values, strict=True))
        raise KeyError
    assert all(torch.equal(weight, value) for weight, value in zip(weights, before, strict=True))
    assert not any(torch.equal(weight, value) for weight, value in zip(weights, average.values, strict=True))


def test_a_saved_average_goes_on_bit_for_bit() -> None:
    weights = parameters()
    average = moving_average(weights, 0.9)
    for seed in range(20):
        if seed == 9:
            saved = {name: tensor.clone() for name, tensor in average_tensors(average).items()}
        moved(weights, seed)
        update(average, weights)
    again = parameters()
    other = moving_average(again, 0.9)
    for seed in range(9):
        moved(again, seed)
    load_average(other, saved)
    for seed in range(9, 20):
        moved(again, seed)
        update(other, again)
    assert other.updates == average.updates
    assert all(torch.equal(a, b) for a, b in zip(average.values, other.values, strict=True))


def test_an_average_of_other_weights_is_refused() -> None:
    average = moving_average(parameters(), 0.9)
    with pytest.raises(ValueError, match="other parameters"):
        load_average(average, average_tensors(moving_average(parameters()[:1], 0.9)))

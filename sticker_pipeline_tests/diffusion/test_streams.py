import threading

import pytest
import torch

from sticker_pipeline.diffusion.streams import parts, side_by_side

CPU = torch.device("cpu")


def test_two_calls_run_at_once_each_in_half_of_the_threads_and_without_gradients(four_threads: None) -> None:
    both = threading.Barrier(2, timeout=30)  # is passed only where two are in it

    def looked_at(item: int) -> tuple[int, int, bool]:
        both.wait()
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    assert side_by_side(looked_at, [3, 1, 2, 0], CPU) == [(item, 2, False) for item in (3, 1, 2, 0)]
    assert torch.get_num_threads() == 4


def test_on_a_gpu_and_with_one_thread_calls_follow_each_other_here() -> None:
    here = threading.get_ident()
    assert side_by_side(lambda item: threading.get_ident(), [0, 1], torch.device("cuda")) == [here, here]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert side_by_side(lambda item: threading.get_ident(), [0, 1], CPU) == [here, here]
    finally:
        torch.set_num_threads(before)


def test_what_a_call_raises_is_raised_and_the_threads_are_as_before(four_threads: None) -> None:
    def fails(item: int) -> int:
        raise ValueError(f"no {item}")

    with pytest.raises(ValueError, match="no 0"):
        side_by_side(fails, [0, 1], CPU)
    assert torch.get_num_threads() == 4


def test_a_batch_is_cut_in_two_where_each_part_has_16_rows() -> None:
    assert parts(31) == [slice(0, 31)]
    assert parts(33) == [slice(0, 16), slice(16, 33)]
    assert parts(16, rows_each=2) == [slice(0, 8), slice(8, 16)]
    assert parts(15, rows_each=2) == [slice(0, 15)]
    assert parts(0) == [slice(0, 0)]

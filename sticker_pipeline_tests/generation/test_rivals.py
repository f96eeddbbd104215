"""Messages for rivals that are not measured. test_line measures the others."""

import pytest
import torch

from sticker_pipeline.diffusion.lora.file import LoraError
from sticker_pipeline.generation.rivals import is_left_out, why_not_generated


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LoraError("a.safetensors is\na pickle: name another."), "a.safetensors is a pickle: name another."),
        (
            PermissionError(13, "Permission denied", "a.safetensors"),
            "Permission denied: 'a.safetensors'). Make it",
        ),
        (MemoryError(), "there was not enough memory to generate with it (MemoryError). Free some, or lower"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nMore"),
            "to generate with it (CUDA out of memory.). Free some",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 64 bytes"),
            "not enough memory to generate with it ([enforce fail",
        ),
        (KeyError("to_q"), "generating with it failed (KeyError: 'to_q'). Name another file, or remove it"),
        (AssertionError(), "generating with it failed (AssertionError: AssertionError)."),
    ],
)
def test_each_error_is_one_sentence_with_a_remedy(error: Exception, words: str) -> None:
    sentence = is_left_out("one", why_not_generated(error))
    assert sentence.startswith("Rival 'one' is left out: ")
    assert words in sentence and "\n" not in sentence

"""A batch's forward and backward as a CUDA graph: recorded once for each shape, then replayed in one call.

At a few images a step a GPU is faster than Python can tell it what to do next: thousands of small kernels, each
started by its own call. A graph starts them all (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sticker_pipeline.training.backward import Backward, Inputs

Shape = tuple[tuple[str, torch.Size], ...]

MOST = 16  # recordings that are kept: each holds some memory of its own beside what all share


@dataclass(frozen=True)
class Recording:
    """A graph, the memory that it reads its inputs from and that in which it leaves its results."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    errors: Tensor
    gradients: tuple[Tensor, ...]


Recordings = dict[Shape, Recording]


def recorded(backward: Backward, recordings: Recordings) -> Backward:
    """`backward`, run as it is for the first batch of each shape and replayed from `recordings` for all later ones.

    Whoever needs the GPU's memory for something else meanwhile calls `forget`; what is missing is recorded again.
    """
    known: set[Shape] = set()

    def replay(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        shape = tuple((name, tensor.shape) for name, tensor in inputs.items())
        if shape not in known:
            forget(recordings)  # their memory cannot serve what is not recorded
            known.add(shape)
            return backward(inputs)  # libraries choose and load their kernels now, which a recording may not
        if shape not in recordings:
            if len(recordings) == MOST:
                recordings.pop(next(iter(recordings)))
            recordings[shape] = _record(backward, inputs, recordings)
        recording = recordings[shape]
        with torch.no_grad():
            torch._foreach_copy_(list(recording.inputs.values()), [inputs[name] for name in recording.inputs])
        recording.graph.replay()
        return recording.errors.clone(), tuple(gradient.clone() for gradient in recording.gradients)

    return replay


def forget(recordings: Recordings) -> None:
    """Give back the memory of all `recordings`."""
    if recordings:
        recordings.clear()
        torch.cuda.empty_cache()


def _record(backward: Backward, inputs: Inputs, others: Recordings) -> Recording:
    """Record only, in the memory that `others` use as well: never two of them run at once."""
    own = {name: tensor.detach().clone().requires_grad_(tensor.requires_grad) for name, tensor in inputs.items()}
    graph = torch.cuda.CUDAGraph()
    pool = next((other.graph.pool() for other in others.values()), None)
    torch.cuda.empty_cache()
    # Other threads may go on with theirs meanwhile, such as the one that watches over an exchange between processes.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        errors, gradients = backward(own)
    return Recording(graph, own, errors, gradients)

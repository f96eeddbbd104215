"""CUDA graphs of a batch's forward and backward, recorded once per shape.

With a few images a step, launching thousands of small kernels from Python takes longer than running them. A graph is
one launch (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sticker_pipeline.training.backward import Backward, Inputs

Shape = tuple[tuple[str, torch.Size], ...]

MOST = 16  # each holds memory of its own beside the shared pool


@dataclass(frozen=True)
class Recording:
    """A graph with its input and result memory."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    errors: Tensor
    gradients: tuple[Tensor, ...]


Recordings = dict[Shape, Recording]


def recorded(backward: Backward, recordings: Recordings) -> Backward:
    """`backward`, replayed from `recordings` once it ran for the batch's shape.

    A shape's first batch runs without a graph. `forget` frees memory; dropped recordings are made again.
    """
    known: set[Shape] = set()

    def replay(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        shape = tuple((name, tensor.shape) for name, tensor in inputs.items())
        if shape not in known:
            forget(recordings)  # their memory is unavailable to a run without a graph
            known.add(shape)
            return backward(inputs)  # libraries load kernels here, which a recording does not allow
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
    """Free the memory of all `recordings`."""
    if recordings:
        recordings.clear()
        torch.cuda.empty_cache()


def _record(backward: Backward, inputs: Inputs, others: Recordings) -> Recording:
    """Record in the memory pool of `others`, which never run at once."""
    own = {name: tensor.detach().clone().requires_grad_(tensor.requires_grad) for name, tensor in inputs.items()}
    graph = torch.cuda.CUDAGraph()
    pool = next((other.graph.pool() for other in others.values()), None)
    torch.cuda.empty_cache()
    # Other threads may use CUDA meanwhile, such as the watchdog of exchanges between processes.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        errors, gradients = backward(own)
    return Recording(graph, own, errors, gradients)

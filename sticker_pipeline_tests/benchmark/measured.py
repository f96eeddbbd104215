"""A small benchmark in which every metric has a value."""

import numpy as np

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.tables import BenchmarkResult, benchmark_table

X, Y, Z = np.eye(3)


def full() -> BenchmarkResult:
    """Two mediums, with everything that can be given."""
    tags = {"smile": np.array([[True, False]] * 2), "nothing": np.zeros((2, 2), dtype=bool)}
    generated = {
        "base": {
            "sticker": GeneratedImages(np.array([Y, Y]), np.array([Y, Y]), tags["nothing"]),
            "art": GeneratedImages(np.array([Y, Z]), np.array([Y, Z]), tags["smile"]),
        },
        "lora": {
            "sticker": GeneratedImages(np.array([X, X]), np.array([Y, X]), tags["smile"]),
            "art": GeneratedImages(np.array([X, Z]), np.array([X, Z]), tags["smile"]),
        },
    }
    context = EvaluationContext(
        references={
            "sticker": Embeddings(np.array([X, X]), ["a", "b"]),
            "art": Embeddings(np.array([X, Y]), ["c", "d"]),
        },
        training=Embeddings(np.array([X, Z]), ["gif", "gif"], ["sticker", "sticker"]),
        others={
            "nova": {"sticker": Embeddings(np.array([Y, Y]), ["m", "n"])},
            "zed": {"sticker": Embeddings(np.array([Z]), ["o"]), "art": Embeddings(np.array([Z]), ["p"])},
        },
        requests={
            "sticker": Requests(["smile", "smile, dabbing"], ["1", "2"]),
            "art": Requests(["arms up, smile", "smile, arms up"], ["1", "2"]),
        },
        tag_names=["smile", "arms up"],
    )
    return benchmark_table(generated, context, samples=200)

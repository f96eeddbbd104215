"""Choice of the store of artifacts: a folder, or an object store."""

import re
from pathlib import Path

from sticker_pipeline.core.storage import ArtifactStore


def open_store(root: str, scratch: Path | str) -> ArtifactStore:
    """Open the store at `root`, a folder or URL.

    root: such as s3://bucket/artifacts. scratch: folder for local copies of an object store. Raises StorageError for an
    unusable URL.
    """
    if not is_address(root):
        return ArtifactStore(root)
    from sticker_pipeline.core.object_store.store import ObjectStore

    return ObjectStore(root, scratch)


def is_address(root: str) -> bool:
    """Tell whether `root` is an object store's, also a misspelt one as `s3:/bucket`."""
    return "://" in root or bool(re.match("(?i)(s3|gs|az):", root))

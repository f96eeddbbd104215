"""Choice of the store of artifacts: a folder, or an object store."""

from pathlib import Path

from sticker_pipeline.core.storage import ArtifactStore


def open_store(root: str, scratch: Path | str) -> ArtifactStore:
    """Open the store at `root`, a folder or URL.

    root: such as s3://bucket/artifacts. scratch: folder for local copies of an object store. Raises StorageError for an
    unusable URL.
    """
    if "://" not in root:
        return ArtifactStore(root)
    from sticker_pipeline.core.object_store.store import ObjectStore

    return ObjectStore(root, scratch)

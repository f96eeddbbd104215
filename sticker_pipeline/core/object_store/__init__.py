"""Artifacts in an object store: blobs by content, manifests as pointers."""

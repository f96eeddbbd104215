"""The store of artifacts in an object store: blobs by content, manifests as pointers."""

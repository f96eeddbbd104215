"""Assets for users: the release, files for ComfyUI, the report."""

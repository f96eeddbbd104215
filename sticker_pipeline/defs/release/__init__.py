"""Assets that people get: the release, files for ComfyUI, the report."""

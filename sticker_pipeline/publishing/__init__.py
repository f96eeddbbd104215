"""Releases for other programs: report, ComfyUI and A1111 files, model cards."""

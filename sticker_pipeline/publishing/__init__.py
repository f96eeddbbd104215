"""Releases as others open them: report, ComfyUI and A1111 files, model cards."""

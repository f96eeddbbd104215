"""Training sets (frames, captions, sampling), and folders of other trainers."""

"""Training sets: what is trained on with which caption, and folders of other trainers."""

"""The log of a training: its columns, and what is made of them."""

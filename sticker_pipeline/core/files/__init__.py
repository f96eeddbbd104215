"""Safe reading and writing of files: confined to a folder, bounded, atomic, one process at a time."""

"""Safe reading and writing of files: confined, bounded, atomic, one process at a time."""

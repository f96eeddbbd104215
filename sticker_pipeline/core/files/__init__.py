"""Safe access to files: confined, bounded, atomic, one process at a time."""

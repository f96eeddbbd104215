"""Reading and writing files safely: inside one folder, bounded, whole or not at all, by one process at a time."""

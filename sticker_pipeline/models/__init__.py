"""Model files from the hub, other sites and folders, fetched and pinned by hash."""

"""Model files from hub, web and folders, fetched and pinned by hash."""

"""Reading of kohya's settings files, key by key, into ours."""

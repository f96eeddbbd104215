"""Images from prompts: requests, jobs, the cache, and grids."""

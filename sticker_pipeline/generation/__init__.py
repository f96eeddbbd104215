"""Image generation: prompts, requests, jobs, cache, grids."""

"""Settings files of kohya's trainers, read key by key into settings of ours."""

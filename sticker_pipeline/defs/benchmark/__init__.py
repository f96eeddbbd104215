"""Assets that choose, sample, measure and compare."""

"""Assets of a style shared by several characters."""

"""Assets of a style that several characters share."""

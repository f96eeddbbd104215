"""Assets from a character's files to its training set."""

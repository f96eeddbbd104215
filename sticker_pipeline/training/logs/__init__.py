"""The log of a training: tables, charts, progress, results."""

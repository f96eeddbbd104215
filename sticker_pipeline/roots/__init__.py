"""Values of roots: the settings and files that assets are made from, as JSON types.

With equal values nothing is made again. `defs/scopes.py` assigns values to roots.
"""

"""Values of roots (settings and files behind assets), as JSON types.

Equal values: nothing is made again. `defs/scopes.py` assigns them to roots.
"""

"""Values of roots (settings and files behind assets), as JSON types.

Equal values: no asset is made again. `defs/scopes.py` assigns them to roots.
"""

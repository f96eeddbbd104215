"""Values of roots: the settings and files that assets are made from, as JSON types.

Equal values mean that nothing has to be made again. Which values belong to which root stands in `defs/scopes.py`.
"""

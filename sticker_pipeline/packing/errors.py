"""Error of packs that a person can correct."""

from sticker_pipeline.core.texts import UserError


class PackError(UserError):
    """An unusable sticker, pack or file of one.

    The message has the remedy.
    """

"""Owners of the assets, from an environment variable."""

from collections.abc import Mapping, Sequence

import dagster as dg

from sticker_pipeline.core.texts import UserError, quoted

VARIABLE = "STICKER_OWNER"


class OwnerError(UserError):
    """An invalid STICKER_OWNER; the message gives the remedy."""


def owners(environment: Mapping[str, str]) -> list[str]:
    """Return the owners in STICKER_OWNER, comma-separated; default: none.

    Raises OwnerError unless each is an e-mail address, or `team:` and a name.
    """
    found = [name for part in environment.get(VARIABLE, "").split(",") if (name := part.strip())]
    for name in found:
        try:
            dg.AssetSpec("any", owners=[name])
        except dg.DagsterInvalidDefinitionError as error:
            raise OwnerError(
                f"{VARIABLE}: {quoted(name)} is no owner. Write an e-mail address, or `team:` and a name; commas "
                "separate several."
            ) from error
    return found


def owned(definitions: dg.Definitions, names: Sequence[str]) -> dg.Definitions:
    """Return the definitions with these owners of each asset."""
    if not names:
        return definitions
    return definitions.map_resolved_asset_specs(func=lambda spec: spec.replace_attributes(owners=names))

"""Assets that are made on request alone, never by "Materialize all"."""

from collections.abc import Callable, Collection, Iterator
from functools import wraps
from typing import Any

import dagster as dg

from sticker_pipeline.core.texts import listed
from sticker_pipeline.dagster_kit.compat import selected_assets

GROUP = "on_request"
Make = Callable[..., dg.MaterializeResult]


def on_request(together: Collection[dg.AssetKey]) -> Callable[[Make], Callable[..., Iterator[dg.MaterializeResult]]]:
    """Decorate an asset's function to skip launches of further assets.

    `together`: all assets on request, which may be launched together. The asset needs `output_required=False`.
    """

    def decorated(make: Make) -> Callable[..., Iterator[dg.MaterializeResult]]:
        @wraps(make)
        def step(context: dg.AssetExecutionContext, *resources: Any, **named: Any) -> Iterator[dg.MaterializeResult]:
            if others := sorted(key.to_user_string() for key in selected_assets(context) if key not in together):
                context.log.warning(skipped(context.asset_key, others))
            else:
                yield make(context, *resources, **named)

        return step

    return decorated


def skipped(asset: dg.AssetKey, others: list[str]) -> str:
    """Return the reason why a launch of `others` too makes no `asset`."""
    return (
        f"{asset.to_user_string()} is made on request alone, and this launch is of {listed(others)} too: it is not "
        "made now. To have it, materialize nothing else."
    )

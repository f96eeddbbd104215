"""The Dagster UI's address, for its port, links and messages."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from sticker_pipeline.core.texts import UserError, quoted

VARIABLE = "STICKER_UI"
DEFAULT_PORT = 3000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class AddressError(UserError):
    """A STICKER_UI that is no address."""


def ui_address(environment: Mapping[str, str]) -> str:
    """Return STICKER_UI without a final slash; default: the loopback address.

    Raises AddressError.
    """
    text = environment.get(VARIABLE) or f"http://127.0.0.1:{DEFAULT_PORT}"
    if not _is_address(text):
        raise AddressError(
            f"{VARIABLE} is {quoted(text)}, which is no address of a UI: write one such as "
            f"http://127.0.0.1:{DEFAULT_PORT} or https://stickers.example.org."
        )
    return text.rstrip("/")


def ui_port(environment: Mapping[str, str]) -> int:
    """Return the port to listen at: STICKER_UI's, if it names this machine.

    Raises AddressError.
    """
    found = urlsplit(ui_address(environment))
    return found.port or DEFAULT_PORT if found.hostname in LOOPBACK else DEFAULT_PORT


def address_of(environment: Mapping[str, str], host: str) -> str:
    """Return the address of a UI that listens at `host` (name:port).

    That of STICKER_UI if it names another machine, such as a proxy. Raises AddressError.
    """
    stated = ui_address(environment)
    return f"http://{host}" if urlsplit(stated).hostname in LOOPBACK else stated


def _is_address(text: str) -> bool:
    try:
        found = urlsplit(text)
        is_port = found.port is None or found.port > 0
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and is_port and found.scheme in ("http", "https") and bool(found.hostname) and not found.query

"""Requests to a bucket: reads, conditional writes, listings, through obstore."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sticker_pipeline.core.storage import StorageError

ADDRESS = re.compile(r"(s3|gs|az)://[A-Za-z0-9][\w.-]*(/\w[\w .=+~-]*)*/?")
PAUSES = (1.0, 4.0, 16.0)  # seconds before a write is tried again, after obstore's own tries
TRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=10), "base": 2},
}
Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class BucketError(StorageError):
    """A request that the object store refused or did not answer."""


class Conflict(Exception):
    """A conditional write to an object that has changed."""


@dataclass(frozen=True)
class Meta:
    """An object: key, entity tag, bytes, time of change (since 1970)."""

    key: str
    tag: str
    size: int
    changed: float


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket; keys are relative to it."""

    url: str
    objects: Any

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and tag, or None."""
        import obstore

        def read() -> tuple[bytes, str]:
            found = obstore.get(self.objects, key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

        return self._or_none(key, read)

    def head(self, key: str) -> Meta | None:
        """Return what is known of an object, or None."""
        import obstore

        return self._or_none(key, lambda: _meta(obstore.head(self.objects, key)))

    def download(self, key: str, path: Path) -> bool:
        """Write an object to the new file `path`; False without the object."""
        import obstore

        def read() -> bool:
            with path.open("wb") as file:
                for chunk in obstore.get(self.objects, key).stream():
                    file.write(chunk)
            return True

        return bool(self._or_none(key, read))

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, whatever is there."""
        import obstore

        self._patiently(key, lambda: obstore.put(self.objects, key, content))

    def put_if(self, key: str, data: bytes, tag: str) -> str:
        """Replace version `tag` of an object (empty: no object); return the new tag.

        Raises Conflict for another version. An answer that was lost is told from a refusal by the object's bytes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def write() -> str:
            try:
                mode: Any = {"e_tag": tag} if tag else "create"
                return str(obstore.put(self.objects, key, data, mode=mode, use_multipart=False)["e_tag"])
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                now = self.get(key)
                if now is None or now[0] != data:
                    raise Conflict(key) from error
                return now[1]

        return self._patiently(key, write)

    def listed(self, prefix: str, after: str = "") -> Iterator[Meta]:
        """Yield the objects below `prefix` with keys after `after`, by key."""
        import obstore

        try:
            for page in obstore.list(self.objects, prefix or None, offset=after or None):
                yield from map(_meta, page)
        except OSError as error:
            raise self._refused(prefix, error) from error
        except Exception as error:
            raise self._translated(prefix, error) from error

    def delete(self, keys: list[str]) -> None:
        """Delete objects; missing ones are no error."""
        import obstore

        self._patiently(keys[0] if keys else "", lambda: obstore.delete(self.objects, keys))

    def check(self) -> None:
        """Raise BucketError for a bucket that cannot be listed."""
        next(self.listed(""), None)

    def _or_none(self, key: str, read: Callable[[], Result]) -> Result | None:
        try:
            return self._patiently(key, read)
        except FileNotFoundError:
            return None

    def _patiently(self, key: str, do: Callable[[], Result]) -> Result:
        """Return `do()`, tried again after PAUSES where the store gave no answer."""
        for pause in (*PAUSES, None):
            try:
                return do()
            except (FileNotFoundError, Conflict, StorageError):
                raise
            except Exception as error:
                if pause is None or not _is_passing(error):
                    raise self._translated(key, error) from error
                _LOG.warning("%s/%s: %s; tried again in %.0f s", self.url, key, _in_words(error), pause)
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _translated(self, key: str, error: Exception) -> Exception:
        from obstore.exceptions import BaseError

        return self._refused(key, error) if isinstance(error, BaseError) else error

    def _refused(self, key: str, error: Exception) -> BucketError:
        return BucketError(
            f"{self.url}/{key}: {_in_words(error)} Check the address, the network, and the rights of the credentials "
            "in the environment."
        )


def open_bucket(url: str) -> Bucket:
    """Open the bucket of `url`; nothing is requested.

    Credentials and endpoint are those of the environment, as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL. Raises
    StorageError for an unknown scheme, and without obstore.
    """
    if not ADDRESS.fullmatch(url):
        shown = url.rpartition("@")[2]  # without a password
        raise StorageError(f"{shown} is no address of an object store. Use one as s3://bucket/folder, gs:// or az://.")
    if _first_process() != os.getpid():
        raise StorageError(f"{url} was opened before a fork of this process, and can be used only in the first one.")
    return _opened(url.rstrip("/"), tuple(item for item in sorted(os.environ.items()) if item[0].startswith("AWS_")))


@cache
def _first_process() -> int:
    return os.getpid()


@cache
def _opened(url: str, environment: tuple[tuple[str, str], ...]) -> Bucket:
    """Open `url` once for each environment: connections are kept."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise StorageError(f"{url} needs the package obstore: pip install 'sticker_pipeline[fleet]'") from error
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    plain: dict[str, Any] = {"client_options": {"allow_http": True}} if endpoint.startswith("http://") else {}
    try:
        return Bucket(url, from_url(url, retry_config=TRIES, **plain))
    except (BaseError, ValueError) as error:
        raise StorageError(f"{url} cannot be opened: {_in_words(error)}") from error


def _meta(found: Any) -> Meta:
    return Meta(found["path"], str(found["e_tag"]), found["size"], found["last_modified"].timestamp())


def _is_passing(error: Exception) -> bool:
    """Tell whether a later try may succeed."""
    from obstore.exceptions import GenericError

    refused = isinstance(error, GenericError) and re.search(r"status code: 4\d\d", str(error))
    return isinstance(error, GenericError | TimeoutError | ConnectionError) and not refused


def _in_words(error: Exception) -> str:
    """Return the server's own message, or the first line of the error."""
    text = str(error).strip() or type(error).__name__
    said = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
    line = f"{said[1]}: {said[2]}" if said else text.splitlines()[0][:300]
    return f"{line.rstrip('.')}."

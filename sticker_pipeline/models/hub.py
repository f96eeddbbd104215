"""Access to the hub through huggingface_hub, only here.

huggingface_hub reads HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE, and sends the token only to the hub.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.known_models import REVISION, FetchError, Source
from sticker_pipeline.models.arriving import STATED, Answer, Broken, WrongRange, arrive, in_time


@dataclass(frozen=True)
class RemoteFile:
    """The hub's size and hash: `sha256` of large files, else git blob `git_sha1`."""

    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Remote:
    """The files of a source at one commit."""

    revision: str
    files: dict[str, RemoteFile]


def look_up(source: Source, endpoint: str | None = None) -> Remote:
    """Return the commit of a source and the files needed of it.

    Without `source.revision`, the newest. `endpoint` None: HF_ENDPOINT, else the public hub. Raises FetchError for a
    repository that does not exist, may not be read, or lacks a file.
    """
    from huggingface_hub import HfApi

    def ask() -> Remote:
        info = HfApi(endpoint=endpoint).model_info(source.repo, revision=source.revision, files_metadata=True)
        there = {entry.rfilename: entry for entry in info.siblings or [] if entry.rfilename in source.files}
        return Remote(str(info.sha), {name: _stated(entry) for name, entry in there.items()})

    with _in_plain_words(source.repo, source.revision, endpoint):
        try:
            there = in_time(ask)
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            why = ascii(error)[:200]
            raise FetchError(f"The answer about {source.repo} is not that of the hub's API ({why}).") from error
    lacking = [name for name in source.files if name not in there.files]
    lacking += [] if REVISION.fullmatch(there.revision) else ["commit"]
    if lacking:
        raise FetchError(
            f"{source.repo} at {source.revision or 'its newest revision'} has no {' and no '.join(lacking)}: "
            f"it is not a {source.kind} of the form that is needed here."
        )
    return Remote(there.revision, {name: there.files[name] for name in source.files})


def _stated(entry: Any) -> RemoteFile:
    size = entry.lfs.size if entry.lfs else entry.size
    hashes = (entry.lfs.sha256, None) if entry.lfs else (None, entry.blob_id)
    if not isinstance(size, int) or size < 0 or not isinstance(hashes[0] or hashes[1], str):
        raise TypeError(f"{entry.rfilename} has no size or no hash")
    return RemoteFile(size, *hashes)


def download(
    repo: str, revision: str, name: str, size: int, target: Path, endpoint: str | None, say: Callable[[str], None]
) -> None:
    """Download the file `name` of `repo` at `revision`, atomically. Raises FetchError.

    Uses `arrive`: hf_hub_download would restart a file of gigabytes, and accept any size. The caller verifies content.
    """
    from huggingface_hub import hf_hub_url

    with _in_plain_words(repo, revision, endpoint):
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint)
        arrive(url, size, target, lambda done: _rest(url, done), say)


@contextmanager
def _rest(url: str, done: int) -> Iterator[Answer]:
    """Request `url` from byte `done` on, or all of it without ranges."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # ranges count the file's own bytes
    headers |= {"Range": f"bytes={done}-"} if done else {}
    limits: dict[str, Any] = {"timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT, "retry_on_exceptions": ()}
    with ExitStack() as stack:

        def ask() -> Any:
            response = stack.enter_context(http_stream_backoff("GET", url, headers=headers, **limits))
            if response.status_code != 416:  # range not satisfiable
                hf_raise_for_status(response)
            return response

        try:
            response = in_time(ask)
            is_rest = response.status_code == 206
            if response.status_code == 416 or (
                is_rest and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            ):
                raise WrongRange("another part of the file came than was asked for")
            length, encoding = (response.headers.get(name, "") for name in STATED)
            yield Answer(is_rest, length, encoding, response.iter_raw())
        except Exception as error:
            if isinstance(error, Broken | OfflineModeIsEnabled) or not _no_connection(error):
                raise
            raise Broken(f"{type(error).__name__}: {error}") from error


@contextmanager
def _in_plain_words(repo: str, revision: str | None, endpoint: str | None) -> Iterator[None]:
    from huggingface_hub import constants

    try:
        yield
    except FetchError:
        raise
    except (OSError, ValueError) as error:
        raise FetchError(_sentence(error, repo, revision, endpoint or constants.ENDPOINT)) from error
    except Exception as error:
        if not _no_connection(error):
            raise
        raise FetchError(_sentence(error, repo, revision, endpoint or constants.ENDPOINT)) from error


def _sentence(error: BaseException, repo: str, revision: str | None, endpoint: str) -> str:
    from huggingface_hub import errors

    what = f"{repo} at {revision}" if revision else repo
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{what} has to be downloaded, but HF_HUB_OFFLINE is set. Unset it, or fetch on another machine."
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: accept its conditions on {endpoint}/{repo}, then set HF_TOKEN to a token of yours."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision} (any more). `--update` moves on to its newest one."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{endpoint} has no {repo}, or does not show it: check the name, or set HF_TOKEN where it is private."
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "no status"
        hint = "check HF_TOKEN" if status in (401, 403) else "try again later"
        return f"{endpoint} answered {status} for {what}: {hint}."
    if isinstance(error, SpaceError):
        return f"{error} What has arrived so far is kept."
    if _no_connection(error):
        why = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        return (
            f"{endpoint} cannot be reached for {what} ({why[:300]}). Check the connection, or set "
            "HF_ENDPOINT to a mirror; what has arrived so far is kept."
        )
    return f"{what} could not be downloaded: {error}. Run this again; what has arrived so far is kept."


def _no_connection(error: BaseException) -> bool:
    """Tell whether `error` is a connection error.

    httpx and its successor, used by different huggingface_hub versions, share these names.
    """
    return isinstance(error, ConnectionError | Broken) or any(
        kind.__name__ == "TransportError" for kind in type(error).__mro__
    )

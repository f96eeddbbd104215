"""The only code that talks to the hub, through huggingface_hub: what a repository holds, and one file of it.

huggingface_hub reads HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE itself, goes on where a connection breaks, and shows a
bar for each file. What is done with the files belongs to `fetch`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.models.known import FetchError, Source
from sticker_pipeline.space import SpaceError, writing


@dataclass(frozen=True)
class RemoteFile:
    """Size and hash as the hub states them: `sha256` of large files, `git_sha1` (of a git blob) of all others."""

    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Remote:
    """The files of a source at one commit of its repository."""

    revision: str
    files: dict[str, RemoteFile]


def look_up(source: Source, endpoint: str | None = None) -> Remote:
    """The newest commit of the source's repository, or that of its `revision`, and the files needed of it.

    `endpoint`: None means HF_ENDPOINT, else the public hub.
    Raises FetchError for a repository that does not exist, may not be read, or lacks one of the files.
    """
    from huggingface_hub import HfApi

    with _in_plain_words(source.repo, source.revision, endpoint):
        info = HfApi(endpoint=endpoint).model_info(source.repo, revision=source.revision, files_metadata=True)
    there = {entry.rfilename: entry for entry in info.siblings or []}
    lacking = [name for name in source.files if name not in there]
    if lacking or not info.sha:
        raise FetchError(
            f"{source.repo} at {source.revision or 'its newest revision'} has no {' and no '.join(lacking)}: "
            f"it is not a {source.kind} of the form that is needed here."
        )
    files = {}
    for name in source.files:
        entry = there[name]
        files[name] = RemoteFile(
            int(entry.lfs.size if entry.lfs else entry.size or 0),
            entry.lfs.sha256 if entry.lfs else None,
            None if entry.lfs else entry.blob_id,
        )
    return Remote(info.sha, files)


def download(repo: str, revision: str, name: str, size: int, target: Path, endpoint: str | None = None) -> None:
    """Download the file `name` (of `size` bytes) of `repo` at the commit `revision` to `target`, whole or not at all.

    What arrives goes to `<target>.part`, where a later call goes on; hf_hub_download would begin a file of gigabytes
    anew. Whether it is the right file is for the caller to see. Raises FetchError.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    part = part_of(target)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # byte ranges are those of the file itself
    with _in_plain_words(repo, revision, endpoint):
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint)
        with writing(target):
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                if file.tell() > size:
                    file.truncate(0)
                done = file.seek(0, 2)
                if done < size or not size:
                    http_get(url, file, resume_size=done, headers=headers, displayed_filename=name)
            part.replace(target)


def part_of(target: Path) -> Path:
    """Where what has arrived of the file `target` is kept."""
    return target.with_name(f"{target.name}.part")


@contextmanager
def _in_plain_words(repo: str, revision: str | None, endpoint: str | None) -> Iterator[None]:
    """Raise what the hub's client raises as a FetchError of one sentence that says what to do."""
    from huggingface_hub import constants

    try:
        yield
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
        return (
            f"{endpoint} cannot be reached for {what} ({type(error).__name__}: {error}). Check the connection, or set "
            "HF_ENDPOINT to a mirror; what has arrived so far is kept."
        )
    return f"{what} could not be downloaded: {error}. Run this again; what has arrived so far is kept."


def _no_connection(error: BaseException) -> bool:
    """httpx and its successor, between which versions of huggingface_hub differ, name these alike."""
    return isinstance(error, ConnectionError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__)

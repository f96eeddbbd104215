"""Base models in one file: from Civitai, another address, or this machine.

Locked like the hub's: `repo` is the origin, `revision` the SHA-256.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.known_models import FetchError, Source, civitai_places
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.models import web
from sticker_pipeline.models.fetch import Say, bring
from sticker_pipeline.models.hub import Remote, RemoteFile
from sticker_pipeline.models.lock import LOCK_FILE, read_lock

CIVITAI = "https://civitai.com"
TOKEN = "CIVITAI_TOKEN"
_VERSION = re.compile(r"civitai:(\d{1,18})", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".safetensors"
_MODELS = ("Model", "Pruned Model")  # `type` of model files; others are a VAE, or training data
_LONGEST_NAME = 100  # characters before the suffix; file systems take 255 bytes, for temporary names too
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)  # file names on Windows
_ROUNDING = 1024  # bytes of tolerance in `sizeKB`

Judge = Callable[[Path, str], str | None]


@dataclass(frozen=True)
class _File:
    """An available file under its local name.

    `place`: its model's use, if known.
    """

    name: str
    bytes: int
    sha256: str
    place: str | None = None
    url: str = ""


@dataclass(frozen=True)
class _Entry:
    """A file of a model version, from the API."""

    name: str
    kilobytes: float
    sha256: str
    url: str
    primary: Any


def is_single(text: str) -> bool:
    """Tell whether `text` is civitai:ID, an address, or a .safetensors path."""
    return text.startswith(("civitai:", "https://", "http://", "file:")) or text.endswith(_SUFFIX)


def fetch_single(
    text: str,
    models: Path,
    memos: Path,
    *,
    say: Say,
    place: str | None = None,
    sha256: str | None = None,
    judge: Judge = lambda path, place: None,
    site: str = CIVITAI,
) -> None:
    """Fetch the file `text` as base model `place` (sd15/base, sdxl/base), verified and locked.

    Args:
        text: see `is_single`; the `repo` of a locked file.
        models: STICKER_MODELS.
        memos: see `caching.folder_hashes`.
        say: receives progress as sentences.
        place: None: the one locked with this file, else Civitai's.
        sha256: required for an address or path that is not locked.
        judge: returns the error of a file as base model of a place, or None.
        site: Civitai's API (developer.civitai.com/site/reference/model-versions).

    Raises FetchError, one sentence with remedy. CIVITAI_TOKEN is sent only to `site`.
    """
    login = web.Login(site, TOKEN, _token())
    sha256 = sha256.lower() if sha256 else None
    if sha256 and not _SHA256.fullmatch(sha256):
        raise FetchError(f"--sha256 {sha256}: a SHA-256 is 64 hexadecimal digits.")
    origin = f"file:{Path(text).name}" if _is_path(text) else text
    _refuse_secrets(origin)
    if text.startswith("file:"):
        raise FetchError(f"{text} was a file of yours, which cannot be downloaded: fetch its path again.")
    locked = {name: entry for name, entry in read_lock(models).items() if entry.repo == origin}
    place = place or next(iter(locked), None)
    old = locked.get(place) if place else None
    if old and sha256 and old.revision != sha256:
        raise FetchError(f"{place} is locked with SHA-256 {old.revision}, not {sha256}: delete its entry to change it.")
    found = None if old else _look_up(text, sha256, login)
    place = place or (found.place if found else None)
    if place is None:
        raise FetchError(f"{text}: say which base model it shall be: --as sd15/base, or --as sdxl/base.")
    if found:
        _refuse_other_model(models, place, origin, found.name)

    def look_up() -> Remote:
        file = found or _look_up(text, sha256 or (old.revision if old else None), login)
        return Remote(file.sha256, {file.name: RemoteFile(file.bytes, file.sha256, None)})

    def download(revision: str, name: str, expected: RemoteFile, target: Path) -> None:
        if _is_path(text):
            _copy(Path(text), target)
        else:
            web.download(found.url if found else _url(text, revision, login), expected.bytes, target, login, say)

    bring(
        Source(place, origin, "base", ()),
        models,
        memos,
        look_up=look_up,
        download=download,
        judge=lambda path: judge(path, place),
        say=say,
    )


def _token() -> str | None:
    """Read the environment's token. Raises FetchError for one that cannot be sent."""
    token = os.environ.get(TOKEN, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise FetchError(f"{TOKEN} holds letters that no API key has. Copy the key again.")
    return token or None


def _is_path(text: str) -> bool:
    return text.endswith(_SUFFIX) and "://" not in text and not text.startswith("file:")


def _refuse_secrets(origin: str) -> None:
    address = web.split(origin)
    if address.username or "token=" in address.query.lower():
        raise FetchError(
            f"The address at {address.hostname} has a login in it, which the lock file would keep. Leave it out; for "
            f"Civitai, set {TOKEN}."
        )


def _refuse_other_model(models: Path, place: str, origin: str, name: str) -> None:
    """Raise FetchError where another model would stay in use at `place`."""
    entry = read_lock(models).get(place)
    if entry and entry.repo != origin:
        raise FetchError(
            f"{place} is locked to {entry.repo} in {models / LOCK_FILE}, not to {origin}. To change it, delete the "
            "folder and its entry there."
        )
    folder = models / place
    others = [path for path in sorted(folder.glob(f"*{_SUFFIX}")) if path.name != name]
    for path in [models / f"{place}{_SUFFIX}", folder / "model_index.json", *others]:
        if path.is_file():
            raise FetchError(
                f"{path} is there already, and is of another base model. Move it away, and run this again."
            )


def _look_up(text: str, sha256: str | None, login: web.Login) -> _File:
    if text.startswith("civitai:"):
        return _of_civitai(text, sha256, login)
    if sha256 is None:
        raise FetchError(f"{text}: say which file it has to be: --sha256 HASH, as its author states it.")
    if _is_path(text):
        path = Path(text)
        if not path.is_file():
            raise FetchError(f"There is no file {path}.")
        if (found := file_sha256(path)) != sha256:
            raise FetchError(f"{path} has SHA-256 {found}, not {sha256}: it is another file, or was not copied whole.")
        return _File(_safe_name(path.name, text), path.stat().st_size, sha256)
    name = unquote(web.split(text).path).rpartition("/")[2]
    named = name if name.endswith(_SUFFIX) else f"model{_SUFFIX}"
    return _File(_safe_name(named, text), web.size_of(text, login), sha256, url=text)


def _of_civitai(text: str, sha256: str | None, login: web.Login) -> _File:
    """Return a model version's safetensors file, with its server's size."""
    entry, place = _entry(text, sha256, login)
    name, size = _safe_name(entry.name, text), web.size_of(entry.url, login)
    if not abs(size - entry.kilobytes * 1024) <= _ROUNDING:
        raise FetchError(
            f"{text}: {entry.name} should have {entry.kilobytes * 1024:.0f} bytes, and has {size} where it is "
            "downloaded from. It was refused."
        )
    return _File(name, size, entry.sha256, place, entry.url)


def _url(text: str, sha256: str, login: web.Login) -> str:
    return _entry(text, sha256, login)[0].url if text.startswith("civitai:") else text


def _entry(text: str, sha256: str | None, login: web.Login) -> tuple[_Entry, str | None]:
    """Return the file with that hash, else the primary, and its place."""
    match = _VERSION.fullmatch(text)
    if not match:
        raise FetchError(f"{text}: write civitai: and the number of the model version, as in modelVersionId=128713.")
    answer = web.get_json(f"{login.origin}/api/v1/model-versions/{match[1]}", login)
    try:
        kind, base = answer["model"]["type"], answer["baseModel"]
        others = [str(file["name"]) for file in answer["files"]]
        files = [
            _Entry(
                file["name"],
                float(file["sizeKB"]),
                _stated(file["hashes"]),
                str(file["downloadUrl"]),
                file.get("primary"),
            )
            for file in answer["files"]
            if file["name"].endswith(_SUFFIX) and file["type"] in _MODELS
        ]
        place = civitai_places().get(base)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = ascii(error)[:200]
        raise FetchError(f"{text}: the answer of {login.origin} is not that of its API ({why}).") from error
    if kind != "Checkpoint":
        raise FetchError(f"{text} is a {kind}, not a Checkpoint: choose the version of a base model.")
    if not files:
        raise FetchError(f"{text} has no .safetensors file, only {_some(others)}. Choose another.")
    wanted = [file for file in files if file.sha256 == sha256] if sha256 else files
    if not wanted:
        raise FetchError(
            f"{text} has no file with SHA-256 {sha256} (any more), only {_some([file.sha256 for file in files])}."
        )
    chosen = next((file for file in wanted if file.primary), wanted[0])
    if not _SHA256.fullmatch(chosen.sha256):
        raise FetchError(f"{text}: {login.origin} states no SHA-256 of {chosen.name}. Give its address and --sha256.")
    return chosen, place


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name[:80] for name in names[:5]) + more or "none at all"


def _stated(hashes: Mapping[str, str | None]) -> str:
    return (hashes.get("SHA256") or "").lower()


def _safe_name(name: str, text: str) -> str:
    """Replace characters unfit for paths or lock files. Raises FetchError for paths."""
    if "/" in name or "\\" in name or not name.isprintable():
        raise FetchError(f"{text}: its file is named {ascii(name)[:100]}, which would lead elsewhere. It was refused.")
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name.removesuffix(_SUFFIX)).lstrip("._-")[:_LONGEST_NAME]
    if not stem or _RESERVED.fullmatch(stem.partition(".")[0]):
        stem = f"model{stem}"
    return f"{stem}{_SUFFIX}"


def _copy(path: Path, target: Path) -> None:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

"""A Bot API on this machine that enforces the rules for sticker sets.

Source: https://core.telegram.org/bots/api#stickers. As there, a file has another unique id in a set than as an upload.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from PIL import Image, UnidentifiedImageError

TOKEN = "123456789:AAE-secret_of_the_tests_0123456789abc"
USER, BOT = 4242, "Stickers_test_bot"
EMOJI = re.compile(r"[^\x00-\x7f]")


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, description: str, code: int = 400, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.description, self.code, self.retry_after = description, code, retry_after


class Broken(Exception):
    """A connection that ends without an answer."""


@dataclass
class Upload:
    data: bytes
    format: str
    size: tuple[int, int]


@dataclass
class Placed:
    """A sticker in a set."""

    unique: str
    file: Upload
    emoji: list[str]
    keywords: list[str]


@dataclass
class StickerSet:
    title: str
    owner: int
    type: str
    stickers: list[Placed]


@dataclass
class Server:
    """The state of the server at `url`, and the requests that came.

    `before` and `after` are called with method and values around each request, and may raise Refused or Broken: before
    it is carried out, or after. `lag`: how many readings of a set show it as it was before its last change.
    """

    url: str = ""
    uploads: dict[str, Upload] = field(default_factory=dict)
    sets: dict[str, StickerSet] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    started_by: set[int] = field(default_factory=lambda: {USER})
    before: Callable[[str, dict[str, Any]], None] = lambda method, values: None
    after: Callable[[str, dict[str, Any]], None] = lambda method, values: None
    lag: int = 0
    _old: dict[str, list[Any]] = field(default_factory=dict)
    _numbers: int = 0

    def methods(self) -> list[str]:
        """The requests that changed something, in order."""
        return [method for method, _ in self.requests if not method.startswith("get")]

    def answer(self, method: str, values: dict[str, Any], files: Mapping[str, bytes]) -> Any:
        act = getattr(self, f"_{method}", None)
        if act is None:
            raise Refused("Not Found", 404)
        self.requests.append((method, values))
        self.before(method, values)
        name = self._set_of(values)
        shown = self._as_shown(name) if name in self.sets else None
        result = act(values, files)
        if name and method != "getStickerSet" and self.lag and shown:
            self._old[name] = [self.lag, shown]
        self.after(method, values)
        return result

    def _set_of(self, values: Mapping[str, Any]) -> str:
        if "name" in values:
            return str(values["name"])
        return next((name for name, one in self.sets.items() if self._at(one, values.get("sticker")) is not None), "")

    def _getMe(self, values: Any, files: Any) -> Any:
        return {"id": 1, "is_bot": True, "first_name": "Tests", "username": BOT}

    def _getStickerSet(self, values: Any, files: Any) -> Any:
        name = values["name"]
        if name not in self.sets:
            raise Refused("Bad Request: STICKERSET_INVALID")
        if name in self._old:
            left, shown = self._old[name]
            self._old[name][0] = left - 1
            if left > 1:
                return shown
            del self._old[name]
            return shown
        return self._as_shown(name)

    def _as_shown(self, name: str) -> Any:
        found = self.sets[name]
        return {
            "name": name,
            "title": found.title,
            "sticker_type": found.type,
            "stickers": [
                {
                    "file_id": f"in-set-{one.unique}",
                    "file_unique_id": one.unique,
                    "type": found.type,
                    "width": one.file.size[0],
                    "height": one.file.size[1],
                    "is_animated": False,
                    "is_video": one.file.format == "video",
                    "emoji": one.emoji[0],
                    "set_name": name,
                }
                for one in found.stickers
            ],
        }

    def _uploadStickerFile(self, values: Any, files: Mapping[str, bytes]) -> Any:
        self._check_user(values)
        upload = _upload(files["sticker"], values["sticker_format"])
        self._numbers += 1
        file_id = f"upload-{self._numbers}"
        self.uploads[file_id] = upload
        return {"file_id": file_id, "file_unique_id": f"u{self._numbers}", "file_size": len(upload.data)}

    def _createNewStickerSet(self, values: Any, files: Any) -> Any:
        self._check_user(values)
        name, title = values["name"], values["title"]
        if not re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", name) or not 1 <= len(name) <= 64:
            raise Refused("Bad Request: PACK_SHORT_NAME_INVALID")
        if not name.lower().endswith(f"_by_{BOT}".lower()):
            raise Refused("Bad Request: invalid sticker set name is specified")
        if name in self.sets:
            raise Refused("Bad Request: sticker set name is already occupied")
        _check_title(title)
        if not 1 <= len(values["stickers"]) <= 50:
            raise Refused("Bad Request: STICKERS_TOO_MUCH")
        kind = values.get("sticker_type", "regular")
        self.sets[name] = StickerSet(
            title, values["user_id"], kind, [self._placed(one, kind) for one in values["stickers"]]
        )
        return True

    def _addStickerToSet(self, values: Any, files: Any) -> Any:
        found = self._own(values)
        if len(found.stickers) >= (200 if found.type == "custom_emoji" else 120):
            raise Refused("Bad Request: STICKERS_TOO_MUCH")
        found.stickers.append(self._placed(values["sticker"], found.type))
        return True

    def _replaceStickerInSet(self, values: Any, files: Any) -> Any:
        found = self._own(values)
        place = self._at(found, values["old_sticker"])
        if place is None:
            raise Refused("Bad Request: STICKER_INVALID")
        found.stickers[place] = self._placed(values["sticker"], found.type)
        return True

    def _deleteStickerFromSet(self, values: Any, files: Any) -> Any:
        found, place = self._place(values)
        del found.stickers[place]
        return True

    def _setStickerPositionInSet(self, values: Any, files: Any) -> Any:
        found, place = self._place(values)
        if not 0 <= values["position"] < len(found.stickers):
            raise Refused("Bad Request: invalid position")
        found.stickers.insert(values["position"], found.stickers.pop(place))
        return True

    def _setStickerEmojiList(self, values: Any, files: Any) -> Any:
        found, place = self._place(values)
        found.stickers[place].emoji = _checked_emoji(values["emoji_list"])
        return True

    def _setStickerKeywords(self, values: Any, files: Any) -> Any:
        found, place = self._place(values)
        found.stickers[place].keywords = _checked_keywords(values["keywords"])
        return True

    def _setStickerSetTitle(self, values: Any, files: Any) -> Any:
        if values["name"] not in self.sets:
            raise Refused("Bad Request: STICKERSET_INVALID")
        _check_title(values["title"])
        self.sets[values["name"]].title = values["title"]
        return True

    def _check_user(self, values: Any) -> None:
        if values["user_id"] not in self.started_by:
            raise Refused("Bad Request: PEER_ID_INVALID")

    def _own(self, values: Any) -> StickerSet:
        found = self.sets.get(values["name"])
        if found is None or found.owner != values["user_id"]:
            raise Refused("Bad Request: STICKERSET_INVALID")
        return found

    def _place(self, values: Any) -> tuple[StickerSet, int]:
        for found in self.sets.values():
            if (place := self._at(found, values["sticker"])) is not None:
                return found, place
        raise Refused("Bad Request: STICKER_INVALID")

    def _at(self, found: StickerSet, file_id: Any) -> int | None:
        ids = [f"in-set-{one.unique}" for one in found.stickers]
        return ids.index(file_id) if file_id in ids else None

    def _placed(self, sticker: Any, kind: str) -> Placed:
        if set(sticker) - {"sticker", "format", "emoji_list", "mask_position", "keywords"}:
            raise Refused("Bad Request: can't parse InputSticker")
        upload = self.uploads.get(sticker["sticker"])
        if upload is None:
            raise Refused("Bad Request: wrong file identifier/HTTP URL specified")
        if sticker["format"] != upload.format:
            raise Refused("Bad Request: wrong sticker format")
        width, height = upload.size
        if kind == "custom_emoji" and (width, height) != (100, 100):
            raise Refused("Bad Request: STICKER_PNG_DIMENSIONS")
        if kind == "regular" and (max(width, height) != 512 or min(width, height) < 1):
            raise Refused("Bad Request: STICKER_PNG_DIMENSIONS")
        self._numbers += 1
        keywords = _checked_keywords(sticker.get("keywords", []))
        return Placed(f"s{self._numbers}", upload, _checked_emoji(sticker["emoji_list"]), keywords)


def _check_title(title: str) -> None:
    if not 1 <= len(title) <= 64:
        raise Refused("Bad Request: PACK_TITLE_INVALID")


def _checked_emoji(emoji: list[str]) -> list[str]:
    if not 1 <= len(emoji) <= 20 or not all(EMOJI.match(one) for one in emoji):
        raise Refused("Bad Request: STICKER_EMOJI_INVALID")
    return emoji


def _checked_keywords(keywords: list[str]) -> list[str]:
    if len(keywords) > 20 or sum(map(len, keywords)) > 64:
        raise Refused("Bad Request: too many keywords specified")
    return keywords


def _upload(data: bytes, kind: str) -> Upload:
    """Check a file: 512 KiB of PNG or WEBP, or 256 KB of WEBM."""
    if kind == "static":
        try:
            with Image.open(io.BytesIO(data)) as image:
                size, is_still = image.size, getattr(image, "n_frames", 1) == 1
        except UnidentifiedImageError as error:
            raise Refused("Bad Request: STICKER_FILE_INVALID") from error
        if image.format not in ("PNG", "WEBP") or not is_still:
            raise Refused("Bad Request: STICKER_FILE_INVALID")
        most = 512 * 1024
    elif kind == "video":
        size, most = webm_size(data), 256_000
    else:
        raise Refused("Bad Request: invalid sticker format specified")
    if len(data) > most:
        raise Refused("Bad Request: file is too big")
    return Upload(data, kind, size)


def webm_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WEBM's video track, from its EBML elements (RFC 8794, RFC 9559)."""
    found: dict[int, int] = {}
    if not data.startswith(b"\x1a\x45\xdf\xa3"):
        raise Refused("Bad Request: STICKER_VIDEO_NOWEBM")
    _elements(data, found)
    if {0xB0, 0xBA} - set(found):
        raise Refused("Bad Request: STICKER_VIDEO_NOWEBM")
    return found[0xB0], found[0xBA]


def _elements(data: bytes, found: dict[int, int]) -> None:
    at = 0
    while at < len(data):
        name, at = _number(data, at, keep_marker=True)
        length, at = _number(data, at, keep_marker=False)
        body = data[at : at + length]
        if name in (0x18538067, 0x1654AE6B, 0xAE, 0xE0):  # Segment, Tracks, TrackEntry, Video
            _elements(data[at:] if length >= len(data) - at else body, found)
        elif name in (0xB0, 0xBA):
            found[name] = int.from_bytes(body)
        at += length


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    length = 9 - data[at].bit_length() if data[at] else 9
    value = int.from_bytes(data[at : at + length])
    return value if keep_marker else value & ~(1 << 7 * length), at + length


@contextmanager
def serving() -> Iterator[Server]:
    """Serve in a thread until the block ends."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            try:
                self._send(200, {"ok": True, "result": self._result(data)})
            except Refused as refused:
                answer = {"ok": False, "error_code": refused.code, "description": refused.description}
                if refused.retry_after is not None:
                    answer["parameters"] = {"retry_after": refused.retry_after}
                self._send(refused.code, answer)
            except Broken:
                self.close_connection = True

        def _result(self, data: bytes) -> Any:
            prefix, token, method = self.path.partition(TOKEN)
            if prefix != "/bot" or token != TOKEN:
                raise Refused("Unauthorized", 401)
            values, files = _read(self.headers["content-type"], data)
            return state.answer(method.removeprefix("/"), values, files)

        def _send(self, code: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _read(kind: str, data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return values and files of a body, by another reader of multipart/form-data than the sender's."""
    if kind == "application/json":
        return json.loads(data), {}
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + data)
    values, files = {}, {}
    for part in message.get_payload():
        name = str(part.get_param("name", header="content-disposition"))  # type: ignore[union-attr]
        content = bytes(part.get_payload(decode=True))  # type: ignore[union-attr, arg-type]
        if part.get_filename():  # type: ignore[union-attr]
            files[name] = content
        else:
            values[name] = int(content) if name == "user_id" else content.decode()
    return values, files

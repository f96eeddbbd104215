"""Sets are sent to a Bot API that keeps Telegram's rules, also when it breaks off."""

import hashlib
import io
import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from sticker_pipeline.packing import telegram, telegram_plan
from sticker_pipeline.packing.bot_api import Account, BotApi, RefusedError, TelegramError, UnreachableError, account
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.pack_record import PackRecord, StickerRecord
from sticker_pipeline.packing.telegram import Sending, carry_out, lines, prepare
from sticker_pipeline_tests.packing.bot_api import TOKEN, USER, Broken, Placed, Refused, Server, Upload, serving

NAME = "bram_by_Stickers_test_bot"


def png(colour: int, size: tuple[int, int] = (512, 300)) -> bytes:
    data = io.BytesIO()
    Image.new("RGBA", size, (colour % 256, colour // 256, 0, 255)).save(data, "PNG")
    return data.getvalue()


def element(name: str, body: bytes) -> bytes:
    """An EBML element with a length of eight bytes."""
    return bytes.fromhex(name) + (1 << 56 | len(body)).to_bytes(8) + body


def webm(width: int, height: int, rest: bytes = b"") -> bytes:
    """The header of a WEBM with one video track, and other bytes in an element that readers skip (Void)."""
    video = element("e0", element("b0", width.to_bytes(2)) + element("ba", height.to_bytes(2)))
    return (
        element("1a45dfa3", b"") + element("18538067", element("1654ae6b", element("ae", video))) + element("ec", rest)
    )


@dataclass
class Person:
    """Somebody who sends packs from `folder`, and what was said meanwhile."""

    server: Server
    folder: Path
    said: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    @property
    def api(self) -> BotApi:
        return BotApi(Account(TOKEN, USER), self.server.url, self.said.append, self.waited.append)

    @property
    def memory(self) -> Path:
        return self.folder / "sent" / f"{NAME}.json"

    def pack(self, files: dict[str, bytes], kind: str = "static", title: str = "Bram", **texts: Any) -> PackRecord:
        """Write files of slots; `texts`: slot -> (emoji, keywords)."""
        suffix = "png" if kind != "video" else "webm"
        stickers = []
        for slot, data in files.items():
            (self.folder / f"{slot}.{suffix}").write_bytes(data)
            emoji, keywords = texts.get(slot, (("🙏",), (slot,)))
            stickers.append(
                StickerRecord(
                    file=f"{slot}.{suffix}",
                    slot=slot,
                    emoji=emoji,
                    keywords=keywords,
                    sha256=hashlib.sha256(data).hexdigest(),
                    generated=True,
                )
            )
        return PackRecord(platform="telegram", kind=kind, name="bram", title=title, stickers=tuple(stickers))

    def prepare(self, record: PackRecord) -> Sending:
        return prepare(record, self.folder, self.folder / "sent", self.api)

    def send(self, record: PackRecord) -> str:
        return carry_out(self.prepare(record), self.api)

    def shown(self) -> list[bytes]:
        return [one.file.data for one in self.server.sets[NAME].stickers]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def person(server: Server, tmp_path: Path) -> Person:
    return Person(server, tmp_path)


def images(count: int, first: int = 0) -> dict[str, bytes]:
    return {f"s{number}": png(first + number) for number in range(count)}


def test_a_set_is_made(person: Person) -> None:
    files = images(3)
    record = person.pack(files, s1=(("💖", "🙏"), ("hi", "you")))
    assert person.send(record) == f"https://t.me/addstickers/{NAME}"
    found = person.server.sets[NAME]
    assert (found.title, found.owner, found.type) == ("Bram", USER, "regular")
    assert person.shown() == list(files.values())
    assert [one.emoji for one in found.stickers] == [["🙏"], ["💖", "🙏"], ["🙏"]]
    assert [one.keywords for one in found.stickers] == [["s0"], ["hi", "you"], ["s2"]]


def test_more_than_fifty_stickers_are_added_one_by_one(person: Person) -> None:
    files = images(53)
    counted: list[tuple[int, int]] = []
    sending = person.prepare(person.pack(files))
    carry_out(sending, person.api, lambda what, done, total: counted.append((done, total)))
    assert person.shown() == list(files.values())
    assert person.server.methods().count("addStickerToSet") == 3
    assert counted == [(done, 4) for done in range(5)]


def test_what_is_prepared_changes_nothing(person: Person) -> None:
    sending = person.prepare(person.pack(images(2)))
    assert lines(sending) == [f"1. create the set {NAME}, 'Bram', with 2 stickers"]
    assert person.server.methods() == []
    assert not person.memory.exists()


def test_the_same_pack_is_not_sent_again(person: Person) -> None:
    record = person.pack(images(3))
    person.send(record)
    before, memory = person.server.methods(), person.memory.read_bytes()
    sending = person.prepare(record)
    assert lines(sending) == [f"https://t.me/addstickers/{NAME} is up to date."]
    carry_out(sending, person.api)
    assert person.server.methods() == before
    assert person.memory.read_bytes() == memory


def test_after_a_retraining_only_changed_stickers_are_sent(person: Person) -> None:
    files = images(6)
    person.send(person.pack(files))
    person.server.requests.clear()
    changed = {
        "s5": files["s5"],
        "s0": png(100),
        "new": png(101),
        "s3": files["s3"],
        "s4": files["s4"],
        "more": png(102),
    }
    person.send(person.pack(changed, title="Bram II", s4=(("💖",), ("s4",))))
    assert person.shown() == list(changed.values())
    assert person.server.sets[NAME].title == "Bram II"
    assert person.server.sets[NAME].stickers[4].emoji == ["💖"]
    done = person.server.methods()
    assert done.count("uploadStickerFile") == done.count("replaceStickerInSet") == 3
    assert set(done) == {"uploadStickerFile", "replaceStickerInSet", *OTHERS}


def test_a_smaller_pack_deletes_stickers(person: Person) -> None:
    person.send(person.pack(images(4)))
    smaller = {name: data for name, data in images(4).items() if name != "s1"}
    person.send(person.pack(smaller))
    assert person.shown() == list(smaller.values())
    assert person.server.methods()[-1] == "deleteStickerFromSet"


def test_video_stickers_and_emoji_are_sent_with_their_format(person: Person) -> None:
    person.send(person.pack({"a": webm(512, 300), "b": webm(200, 512)}, "video"))
    assert [one.file.format for one in person.server.sets[NAME].stickers] == ["video", "video"]
    other = replace(person, folder=person.folder / "emoji")
    other.folder.mkdir()
    person.server.sets.clear()
    assert other.send(other.pack({"a": png(1, (100, 100))}, "emoji")) == f"https://t.me/addemoji/{NAME}"
    assert person.server.sets[NAME].type == "custom_emoji"


@pytest.mark.parametrize("data", [png(1, (500, 300)), b"no image", webm(512, 512)])
def test_a_wrong_file_is_refused_and_the_reason_shown(person: Person, data: bytes) -> None:
    with pytest.raises(RefusedError, match="Bad Request: STICKER_"):
        person.send(person.pack({"a": data}))
    assert NAME not in person.server.sets


def test_a_large_video_is_refused(person: Person) -> None:
    with pytest.raises(RefusedError, match="Telegram refused uploadStickerFile: Bad Request: file is too big"):
        person.send(person.pack({"a": webm(512, 512, bytes(256_000))}, "video"))


def once(act: Callable[[], None], method: str, after: int = 0) -> Callable[[str, dict[str, Any]], None]:
    """Call `act` at one request of `method`, the one behind `after` others."""
    left = [after]

    def hook(asked: str, values: dict[str, Any]) -> None:
        if asked == method:
            left[0] -= 1
            if left[0] == -1:
                act()

    return hook


def breaks() -> None:
    raise Broken


def fails() -> None:
    raise Refused("Internal Server Error", 500)


STICKERS = ("createNewStickerSet", "addStickerToSet", "replaceStickerInSet", "deleteStickerFromSet")
OTHERS = ("uploadStickerFile", "setStickerPositionInSet", "setStickerEmojiList", "setStickerSetTitle")


@pytest.fixture
def small_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets are created with three stickers, so that small ones are added to."""
    monkeypatch.setattr(telegram_plan, "MOST_AT_CREATION", 3)


def two_packs(person: Person) -> tuple[PackRecord, Callable[[], PackRecord], list[bytes]]:
    """A pack of six stickers, then one of five with changes of each kind, and its files."""
    files = images(6)
    later = {"s5": files["s5"], "s0": files["s0"], "s1": png(900), "x": png(901), "s4": files["s4"]}
    first = person.pack(files)
    return first, lambda: person.pack(later, title="New", s4=(("💖",), ("s4",))), list(later.values())


@pytest.mark.usefixtures("small_beginnings")
@pytest.mark.parametrize("method", [*STICKERS, *OTHERS])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("act", "lag"), [(breaks, 0), (breaks, 2), (fails, 0)])
def test_a_lost_answer_does_not_send_twice(
    person: Person, method: str, act: Callable[[], None], when: str, lag: int
) -> None:
    first, second, wanted = two_packs(person)
    person.server.lag = lag
    setattr(person.server, when, once(act, method))
    person.send(first)
    assert len(person.shown()) == 6
    person.send(second())
    assert person.shown() == wanted
    tried = [sentence for sentence in person.said if "gave no answer" in sentence]
    needed = when == "before" or method in OTHERS  # else the set shows that it was done
    assert [sentence.endswith("Trying again in 1 second.") for sentence in tried] == [True] * needed


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.usefixtures("small_beginnings")
@pytest.mark.parametrize("method", STICKERS)
@pytest.mark.parametrize("reading", ["before", "after"])
def test_an_interrupted_sending_goes_on(
    person: Person, monkeypatch: pytest.MonkeyPatch, method: str, reading: str
) -> None:
    first, second, wanted = two_packs(person)
    real = telegram.call

    def killed(api: BotApi, asked: str, *rest: Any) -> Any:
        if asked != method:
            return real(api, asked, *rest)
        if reading == "after":
            real(api, asked, *rest)
        raise Killed

    for make in (lambda: first, second):
        record = make()
        monkeypatch.setattr(telegram, "call", killed)
        try:
            person.send(record)
        except Killed:
            monkeypatch.setattr(telegram, "call", real)
            person.send(record)
        monkeypatch.setattr(telegram, "call", real)
    assert person.shown() == wanted
    assert person.server.methods().count("uploadStickerFile") == 8, "no file is uploaded twice"


def test_telegram_is_waited_for_when_it_asks(person: Person) -> None:
    def busy() -> None:
        raise Refused("Too Many Requests: retry after 7", 429, 7)

    person.server.before = once(busy, "createNewStickerSet")
    person.send(person.pack(images(2)))
    assert person.said == ["Telegram asks to wait for 7 seconds."]
    assert person.waited == [7]


def test_a_long_wait_is_left_to_the_person(person: Person) -> None:
    def busy() -> None:
        raise Refused("Too Many Requests: retry after 9000", 429, 9000)

    person.server.before = once(busy, "addStickerToSet")
    record = person.pack(images(51))
    with pytest.raises(TelegramError, match="wait for 9,000 seconds: run this again then; it will go on from here"):
        person.send(record)
    person.send(record)
    assert person.shown() == list(images(51).values())
    assert person.waited == []


def test_uploads_that_expired_are_made_again(person: Person) -> None:
    record = person.pack(images(2))
    person.server.before = once(fails_for_good(person), "createNewStickerSet")
    with pytest.raises(RefusedError, match="STICKERS_TOO_MUCH"):
        person.send(record)
    person.server.uploads.clear()
    person.send(record)
    assert person.server.methods().count("uploadStickerFile") == 4
    assert len(person.shown()) == 2


def fails_for_good(person: Person) -> Callable[[], None]:
    def act() -> None:
        raise Refused("Bad Request: STICKERS_TOO_MUCH")

    return act


def test_a_replacement_that_keeps_its_id_is_known(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real = person.server._placed
    monkeypatch.setattr(person.server, "_placed", lambda *of: replace(real(*of), unique="same"))
    person.send(person.pack({"a": png(1)}))
    second = person.pack({"a": png(2)})
    person.send(second)
    assert person.shown() == [png(2)]
    assert person.prepare(second).steps == ()


def test_stickers_of_others_are_left(person: Person) -> None:
    person.send(person.pack(images(2)))
    stranger = Placed("stranger", Upload(b"theirs", "static", (512, 512)), ["🙏"], [])
    person.server.sets[NAME].stickers.insert(1, stranger)
    person.send(person.pack(images(3)))
    assert person.shown() == [*images(3).values(), b"theirs"]


def test_a_sticker_that_was_deleted_by_hand_is_sent_again(person: Person) -> None:
    record = person.pack(images(3))
    person.send(record)
    del person.server.sets[NAME].stickers[1]
    person.send(record)
    assert person.shown() == list(images(3).values())
    assert person.server.methods().count("uploadStickerFile") == 3


def test_a_set_of_which_nothing_is_known_is_not_sent_again(person: Person) -> None:
    record = person.pack(images(2))
    person.send(record)
    person.memory.unlink()
    with pytest.raises(TelegramError, match=rf"Bring back the file {NAME}\.json .* or delete the set"):
        person.send(record)
    assert len(person.shown()) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "n", "stickers": {"a": {}}}', '{"name": "n", "sticker": 1}'])
def test_a_damaged_memory_is_named(person: Person, text: str) -> None:
    person.memory.parent.mkdir()
    person.memory.write_text(text)
    with pytest.raises(TelegramError, match=NAME):
        person.prepare(person.pack(images(1)))


def test_a_changed_file_is_not_sent(person: Person) -> None:
    record = person.pack(images(2))
    (person.folder / "s1.png").write_bytes(png(77))
    with pytest.raises(PackError, match=r"s1\.png is not the file that was packed"):
        person.send(record)
    assert person.server.requests == []


def test_a_person_whom_the_bot_does_not_know_is_told(person: Person) -> None:
    person.server.started_by.clear()
    with pytest.raises(RefusedError, match=r"PEER_ID_INVALID.*Remedy: send the bot a message from the account of"):
        person.send(person.pack(images(1)))


def test_a_wrong_token_is_not_shown(person: Person) -> None:
    wrong = TOKEN[:-1] + "d"
    api = replace(person.api, account=Account(wrong, USER))
    with pytest.raises(RefusedError, match="does not know the bot of TELEGRAM_BOT_TOKEN") as error:
        prepare(person.pack(images(1)), person.folder, person.folder, api)
    assert wrong not in "".join(traceback.format_exception(error.value))
    assert wrong not in repr(api)


def everything_in(error: BaseException | None) -> str:
    """All texts of an error and of those that led to it."""
    found = ""
    while error is not None:
        found += "".join(traceback.format_exception(error)) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("act", ["closed", "echo", "redirect", "no json", "html"])
def test_the_token_is_in_no_message(person: Person, act: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if act == "closed":
                return
            body = json.dumps({"ok": False, "error_code": 400, "description": f"bad {self.path}"}).encode()
            body = {"no json": self.path.encode(), "html": b"\xff\xfe<html>"}.get(act, body)
            self.send_response(302 if act == "redirect" else 400)
            self.send_header("location", f"/elsewhere{self.path}")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            followed.append(self.path)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    followed: list[str] = []
    other = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    try:
        api = replace(person.api, url=f"http://127.0.0.1:{other.server_port}")
        with pytest.raises(TelegramError) as error:
            prepare(person.pack(images(1)), person.folder, person.folder, api)
    finally:
        other.shutdown()
        other.server_close()
    assert TOKEN not in everything_in(error.value) + " ".join(person.said)
    assert followed == []


def test_a_server_that_is_not_there_is_tried_a_few_times(person: Person) -> None:
    api = replace(person.api, url="http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 gave no answer .*: check the network") as error:
        prepare(person.pack(images(1)), person.folder, person.folder, api)
    assert person.waited == [1, 2, 4]
    assert TOKEN not in everything_in(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "ftp://127.0.0.1",
        "https://",
        "x",
        "https://u:p@example.org",
        "https://a/?b",
        "https://[",
        "",
    ],
)
def test_the_token_goes_only_over_https(url: str) -> None:
    with pytest.raises(TelegramError, match=r"unencrypted|is no address of a Bot API"):
        BotApi(Account(TOKEN, USER), url)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "TELEGRAM_BOT_TOKEN is not set: make a bot with @BotFather"),
        ({"TELEGRAM_BOT_TOKEN": "1:secret"}, "TELEGRAM_BOT_TOKEN is not a bot's token"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN + "/x\n"}, "TELEGRAM_BOT_TOKEN is not a bot's token"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN}, "TELEGRAM_USER_ID is not set"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_USER_ID": "@me"}, "TELEGRAM_USER_ID is '@me', and must be a number"),
    ],
)
def test_an_account_that_is_not_stated_is_explained(environment: dict[str, str], said: str) -> None:
    with pytest.raises(TelegramError, match=said) as error:
        account(environment)
    assert "secret" not in str(error.value)


def test_an_account_is_read() -> None:
    found = account({"TELEGRAM_BOT_TOKEN": f" {TOKEN}\n", "TELEGRAM_USER_ID": "42"})
    assert found == Account(TOKEN, 42)
    assert TOKEN not in repr(found)


def test_no_token_is_on_the_disk(person: Person) -> None:
    person.send(person.pack(images(2)))
    files: Sequence[Path] = [path for path in person.folder.rglob("*") if path.is_file()]
    assert person.memory in files
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)

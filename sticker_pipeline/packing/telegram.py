"""Sticker sets in Telegram, made and changed by a bot.

A file remembers what a set holds: SHA-256 of a sticker's file -> its id in the set. Before a request that changes the
set's stickers the file notes the change, and afterwards the set is read again: a run after an interruption thus knows
if it was made, and nothing is sent twice. `packing/telegram_plan.py` has the steps, `packing/bot_api.py` the requests.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sticker_pipeline.core.character import describe_problems
from sticker_pipeline.core.files.inside import read_bytes
from sticker_pipeline.core.files.limited_files import LimitedFileError, parse_json
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import Strict
from sticker_pipeline.core.storage import durable_file
from sticker_pipeline.core.texts import TextError, counted, decoded, shortened
from sticker_pipeline.packing.bot_api import (
    TRIES,
    BotApi,
    RefusedError,
    TelegramError,
    UnreachableError,
    ask,
    call,
)
from sticker_pipeline.packing.pack_record import PackRecord, StickerRecord, read_stickers
from sticker_pipeline.packing.telegram_plan import SentSticker, SetState, Step, check_record, plan, set_name

MOST_MEMORY = 1 << 20  # bytes of a file of ours about a set
LOOKS = 5  # at a set that does not show a change yet, one second apart
SET_ADDRESS = "https://t.me/addstickers/"
EMOJI_ADDRESS = "https://t.me/addemoji/"

Ids = tuple[str, ...]


class Pending(Strict):
    """A change of a set's stickers that was begun.

    `before`: unique ids in the set. `stickers`: to be added. `old`: unique id to be removed, or empty.
    """

    before: Ids
    stickers: tuple[SentSticker, ...] = ()
    old: str = ""


class Memory(Strict):
    """Our knowledge of a set, kept in a file.

    `uploads`: SHA-256 -> file_id of uploaded files. `stickers`: unique id in the set -> the sticker.
    """

    name: str
    uploads: dict[str, str] = Field(default_factory=dict)
    stickers: dict[str, SentSticker] = Field(default_factory=dict)
    pending: Pending | None = None


@dataclass(frozen=True)
class RemoteSet:
    """A set as Telegram shows it.

    `stickers`: (unique id, file_id), in order."""

    title: str
    stickers: tuple[tuple[str, str], ...]

    @property
    def ids(self) -> Ids:
        return tuple(unique for unique, _ in self.stickers)


@dataclass(frozen=True)
class Sending:
    """A prepared sending: `steps` that change the set into `record`.

    `folder`: of the record's files. `memory_file`: of `memory`, which was compared with `remote` (None: no set yet).
    """

    record: PackRecord
    folder: Path
    set_name: str
    memory_file: Path
    memory: Memory
    remote: RemoteSet | None
    steps: tuple[Step, ...]

    @property
    def link(self) -> str:
        """Address with which people add the set."""
        return (EMOJI_ADDRESS if self.record.kind == "emoji" else SET_ADDRESS) + self.set_name


def prepare(record: PackRecord, folder: Path, memories: Path, api: BotApi) -> Sending:
    """Compare the set in Telegram with `record`, and change nothing.

    `folder`: of its files. `memories`: folder of our files about sets. Raises TelegramError and PackError.
    """
    check_record(record)
    read_stickers(folder, record)
    bot = ask(api, "getMe", {})
    if not isinstance(bot, dict) or not isinstance(bot.get("username"), str):
        raise TelegramError("The Bot API does not tell the bot's username: check the address of the API.")
    name = set_name(record.name, bot["username"])
    path = memories / f"{name}.json"
    remote = remote_set(api, name)
    memory = settled(read_memory(path, name), remote)
    return Sending(record, folder, name, path, memory, remote, tuple(plan(record, known_state(memory, remote), name)))


def carry_out(sending: Sending, api: BotApi, count: Count = lambda what, done, total: None) -> str:
    """Carry out the steps of `sending`; return the set's address.

    `count`: takes the steps done. An interrupted sending is continued by `prepare` and this again. Raises
    TelegramError, PackError and SpaceError.
    """
    data = {
        sticker.sha256: content
        for sticker, content in zip(sending.record.stickers, read_stickers(sending.folder, sending.record), strict=True)
    }
    run = _Run(sending, api, data)
    memory, remote = sending.memory, sending.remote
    run.write(memory)
    for done, step in enumerate(sending.steps):
        count("steps done", done, len(sending.steps))
        memory, remote = _carry_out(run, step, memory, remote)
    count("steps done", len(sending.steps), len(sending.steps))
    kept = {sha: upload for sha, upload in memory.uploads.items() if sha in data}
    run.write(memory.model_copy(update={"uploads": kept}))
    return sending.link


@dataclass(frozen=True)
class _Run:
    """A sending under way; `data`: SHA-256 -> bytes."""

    sending: Sending
    api: BotApi
    data: dict[str, bytes]

    def write(self, memory: Memory) -> None:
        text = json.dumps(memory.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
        with durable_file(self.sending.memory_file) as staging:
            staging.write_text(text + "\n", encoding="utf-8")


def _carry_out(run: _Run, step: Step, memory: Memory, remote: RemoteSet | None) -> tuple[Memory, RemoteSet | None]:
    if step.method in ("createNewStickerSet", "addStickerToSet", "replaceStickerInSet", "deleteStickerFromSet"):
        return _change_stickers(run, step, memory, remote)
    unique, file_id = _found(step.key, memory, remote) if step.key else ("", "")
    values: dict[str, Any] = {"sticker": file_id}
    if step.method == "setStickerSetTitle":
        values = {"name": run.sending.set_name, "title": step.value}
    elif step.method == "setStickerPositionInSet":
        values["position"] = step.value
    elif step.method == "setStickerEmojiList":
        values["emoji_list"] = step.stickers[0].emoji
    else:
        values["keywords"] = step.stickers[0].keywords
    ask(run.api, step.method, values)
    if step.method in ("setStickerEmojiList", "setStickerKeywords"):
        changed = "emoji" if step.method == "setStickerEmojiList" else "keywords"
        sent = memory.stickers[unique].model_copy(update={changed: getattr(step.stickers[0], changed)})
        memory = memory.model_copy(update={"stickers": {**memory.stickers, unique: sent}})
        run.write(memory)
    return memory, remote


def _change_stickers(
    run: _Run, step: Step, memory: Memory, remote: RemoteSet | None
) -> tuple[Memory, RemoteSet | None]:
    """Send a request that must not be carried out twice."""
    old, old_file = _found(step.key, memory, remote) if step.key else ("", "")
    earlier = {sticker.sha256 for sticker in step.stickers} & set(memory.uploads)
    memory = _uploaded(run, step, memory)
    pending = Pending(before=remote.ids if remote else (), stickers=tuple(map(_sent, step.stickers)), old=old)
    memory = memory.model_copy(update={"pending": pending})
    run.write(memory)
    for attempt in range(TRIES):
        try:
            call(run.api, step.method, _values(run, step, memory, old_file))
            return _confirmed(pending, *_looked(run, memory))
        except UnreachableError as error:
            now, remote = _looked(run, memory)
            if now.pending is None:
                return now, remote
            if attempt == TRIES - 1:
                raise
            run.api.say(f"{error} Trying again in {counted(2**attempt, 'second')}.")
            run.api.wait(2**attempt)
        except RefusedError as error:
            if not earlier or error.code != 400 or "file" not in error.description.lower():
                if attempt == 0:  # else an earlier request may have been carried out
                    run.write(memory.model_copy(update={"pending": None}))
                raise
            kept = {sha: upload for sha, upload in memory.uploads.items() if sha not in earlier}  # ids may expire
            memory, earlier = _uploaded(run, step, memory.model_copy(update={"uploads": kept})), set()
    raise UnreachableError(f"Telegram takes no {step.method}: run this again later; it will go on from here.")


def _looked(run: _Run, memory: Memory) -> tuple[Memory, RemoteSet | None]:
    """Read the set until it shows the pending change.

    LOOKS times at most."""
    for look in range(LOOKS):
        if look:
            run.api.wait(1)
        remote = remote_set(run.api, run.sending.set_name)
        now = settled(memory, remote)
        if now.pending is None:
            run.write(now)
            break
    return now, remote


def _confirmed(pending: Pending, memory: Memory, remote: RemoteSet | None) -> tuple[Memory, RemoteSet | None]:
    """Return the state after a confirmed change.

    Raises TelegramError if Telegram does not show it."""
    if memory.pending is None:
        return memory, remote
    if pending.stickers and remote and pending.old in remote.ids:  # Telegram takes both files for the same
        return _with(memory, [pending.old], pending), remote
    raise TelegramError("Telegram does not show the change of the set yet: run this again in a minute.")


def _values(run: _Run, step: Step, memory: Memory, old_file: str) -> dict[str, Any]:
    if step.method == "deleteStickerFromSet":
        return {"sticker": old_file}
    stickers = [_input(sticker, memory) for sticker in step.stickers]
    values: dict[str, Any] = {"user_id": run.api.account.user, "name": run.sending.set_name}
    if step.method == "createNewStickerSet":
        kind = "custom_emoji" if run.sending.record.kind == "emoji" else "regular"
        return {**values, "title": step.value, "stickers": stickers, "sticker_type": kind}
    if step.method == "replaceStickerInSet":
        values["old_sticker"] = old_file
    return {**values, "sticker": stickers[0]}


def _input(sticker: StickerRecord, memory: Memory) -> dict[str, Any]:
    return {
        "sticker": memory.uploads[sticker.sha256],
        "format": _format(sticker),
        "emoji_list": sticker.emoji,
        "keywords": sticker.keywords,
    }


def _format(sticker: StickerRecord) -> str:
    return "video" if sticker.file.lower().endswith(".webm") else "static"


def _sent(sticker: StickerRecord) -> SentSticker:
    return SentSticker(sha256=sticker.sha256, slot=sticker.slot, emoji=sticker.emoji, keywords=sticker.keywords)


def _uploaded(run: _Run, step: Step, memory: Memory) -> Memory:
    """Upload the step's files that were not uploaded before."""
    for sticker in step.stickers:
        if sticker.sha256 not in memory.uploads:
            values = {"user_id": run.api.account.user, "sticker_format": _format(sticker)}
            file = ask(run.api, "uploadStickerFile", values, {"sticker": run.data[sticker.sha256]})
            memory = memory.model_copy(update={"uploads": {**memory.uploads, sticker.sha256: _id(file, "file_id")}})
            run.write(memory)
    return memory


def _found(key: str, memory: Memory, remote: RemoteSet | None) -> tuple[str, str]:
    """Return a sticker's unique id and file_id. Raises TelegramError."""
    for unique, file_id in remote.stickers if remote else ():
        if unique == key or (unique in memory.stickers and memory.stickers[unique].sha256 == key):
            return unique, file_id
    raise TelegramError("The set was changed by somebody else meanwhile: run this again.")


def remote_set(api: BotApi, name: str) -> RemoteSet | None:
    """Return the set as Telegram shows it, or None.

    Raises TelegramError."""
    try:
        found = ask(api, "getStickerSet", {"name": name})
    except RefusedError as error:
        if error.code == 400 and "STICKERSET_INVALID" in error.description:
            return None
        raise
    if not isinstance(found, dict) or not isinstance(found.get("stickers"), list):
        raise TelegramError("The Bot API answers with something else than a set: check the address of the API.")
    stickers = tuple((_id(one, "file_unique_id"), _id(one, "file_id")) for one in found["stickers"])
    return RemoteSet(str(found.get("title", "")), stickers)


def _id(about: Any, key: str) -> str:
    if not isinstance(about, dict) or not isinstance(about.get(key), str) or not about[key]:
        raise TelegramError(f"The Bot API answers without a {key}: check the address of the API.")
    return str(about[key])


def settled(memory: Memory, remote: RemoteSet | None) -> Memory:
    """Return `memory` without its pending change if the set shows that change."""
    pending = memory.pending
    if pending is None or remote is None:
        return memory
    new = [unique for unique in remote.ids if unique not in pending.before]
    is_gone = pending.old not in remote.ids
    if len(new) < len(pending.stickers) or not is_gone:
        return memory
    return _with(memory, new, pending)


def _with(memory: Memory, new: Sequence[str], pending: Pending) -> Memory:
    added = dict(zip(new, pending.stickers, strict=False))  # somebody may have added more
    kept = {unique: sent for unique, sent in memory.stickers.items() if unique != pending.old}
    return memory.model_copy(update={"stickers": {**kept, **added}, "pending": None})


def known_state(memory: Memory, remote: RemoteSet | None) -> SetState | None:
    """Return the set's stickers by their files.

    Raises TelegramError for a set of which nothing is known: it would be sent twice.
    """
    if remote is None:
        return None
    found = [(unique, memory.stickers.get(unique)) for unique in remote.ids]
    if remote.ids and not any(sent for _, sent in found):
        raise TelegramError(
            f"The set {memory.name} exists, and there is no record of what was sent to it. Bring back the file "
            f"{memory.name}.json of the machine that sent it, or delete the set with @Stickers (/delpack)."
        )
    keys: list[str] = []
    for unique, sent in found:  # of two with the same file, the second has its own id as the key
        keys.append(sent.sha256 if sent and sent.sha256 not in keys else unique)
    return SetState(remote.title, tuple((key, sent) for key, (_, sent) in zip(keys, found, strict=True)))


def read_memory(path: Path, name: str) -> Memory:
    """Read our file about a set, or nothing known.

    Raises TelegramError."""
    try:
        return Memory.model_validate(parse_json(decoded(read_bytes(path, most=MOST_MEMORY))))
    except FileNotFoundError:
        return Memory(name=name)
    except OSError as error:
        raise TelegramError(f"{path} cannot be read: {error.strerror}.") from error
    except (TextError, LimitedFileError) as error:
        raise TelegramError(f"{path} is damaged ({shortened(str(error))}): bring back its last copy.") from error
    except ValidationError as error:
        raise TelegramError("\n".join(describe_problems(str(path), error, Memory))) from error


def lines(sending: Sending) -> list[str]:
    """Return the steps as sentences for people, numbered."""
    if not sending.steps:
        return [f"{sending.link} is up to date."]
    return [f"{number}. {step.text}" for number, step in enumerate(sending.steps, 1)]

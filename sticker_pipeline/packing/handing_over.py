"""Files beside the stickers that each platform takes: archives, lists, covers.

Formats: WhatsApp's sample app; Apple's Asset Catalog Format Reference; MSC2545; Misskey's packed emoji format.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.png_pixels import SIGNATURE
from sticker_pipeline.packing.archives import tar_gz_of, zip_of
from sticker_pipeline.packing.emoji import emoji_name
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.facts import FileFacts, facts
from sticker_pipeline.packing.pack_record import PackRecord, StickerRecord
from sticker_pipeline.packing.pack_texts import PackTexts

SetFiles = Mapping[str, bytes]  # path in the set's folder -> content
MIME = {"png": "image/png", "gif": "image/gif", "webp": "image/webp", "webm": "video/webm"}
MATRIX_EVENTS = ("m.room.image_pack", "im.ponies.room_emotes")
GRID_SIZES = {300: "small", 408: "regular", 618: "large"}  # of iMessage, by pixels at 3x
XCODE = {"author": "xcode", "version": 1}


def set_files(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return all files of a set's folder but pack.json.

    `files`: those of the stickers. Raises PackError for a missing part.
    """
    make = _BY_PLATFORM.get(record.platform)
    return {**files, **(make(record, files, texts, parts) if make else {})}


def platform_files(platform: str, sets: Sequence[tuple[PackRecord, SetFiles]], texts: PackTexts) -> dict[str, bytes]:
    """Return the files of a platform's folder about all sets."""
    if platform != "whatsapp" or not sets:
        return {}
    packs = [_whatsapp_pack(record, files, texts) for record, files in sets]
    contents = {"android_play_store_link": "", "ios_app_store_link": "", "sticker_packs": packs}
    return {"contents.json": json_bytes(contents)}


def json_bytes(value: Any) -> bytes:
    """Return readable JSON with a line break at its end."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _part(record: PackRecord, parts: Mapping[str, bytes], kind: str) -> bytes:
    if kind not in parts:
        raise PackError(f"{record.platform} needs a '{kind}' for the set {record.name}, and there is none.")
    return parts[kind]


def _whatsapp(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    tray = {"tray.png": _part(record, parts, "tray")}
    if not tray["tray.png"].startswith(SIGNATURE):
        raise PackError(f"whatsapp's 'tray' for the set {record.name} must be a PNG.")
    about = {"title.txt": record.title.encode(), "author.txt": texts.author.encode()}
    return {**tray, f"{record.name}.wastickers": zip_of({**about, **tray, **files})}


def _whatsapp_pack(record: PackRecord, files: SetFiles, texts: PackTexts) -> dict[str, Any]:
    # The version must change with the images, or WhatsApp shows the old ones.
    version = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()[:12]
    return {
        "identifier": record.name,
        "name": record.title,
        "publisher": texts.author,
        "tray_image_file": "tray.png",
        "image_data_version": version,
        "avoid_cache": False,
        "publisher_email": "",
        "publisher_website": "",
        "privacy_policy_website": "",
        "license_agreement_website": "",
        "animated_sticker_pack": record.kind == "animated",
        "stickers": [
            {"image_file": one.file, "emojis": list(one.emoji), "accessibility_text": one.text}
            for one in record.stickers
        ],
    }


def _line(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    main = "animated_main" if record.kind == "animated" else "main"
    more = {"main.png": _part(record, parts, main), "tab.png": _part(record, parts, "tab")}
    return {**more, f"{record.name}.zip": zip_of({**more, **files})}


def _signal(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    first = record.stickers[0].file
    ending = first.rpartition(".")[2]
    stickers = [{"file": one.file, "emoji": "".join(one.emoji[:1])} for one in record.stickers]
    about = {"title": record.title, "author": texts.author, "cover": f"cover.{ending}", "stickers": stickers}
    written = yaml.safe_dump(about, allow_unicode=True, sort_keys=False)
    return {f"cover.{ending}": files[first], "pack.yaml": written.encode()}


def _discord(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    if record.kind != "sticker":
        return {}
    stickers = [
        {"file": one.file, "name": _stem(one), "description": one.text, "tags": ", ".join(map(emoji_name, one.emoji))}
        for one in record.stickers
    ]
    return {"stickers.json": json_bytes(stickers)}


def _imessage(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return an asset catalogue for a new project in Xcode."""
    folder = "Stickers.xcstickers/Sticker Pack.stickerpack"
    width = _facts(record.stickers[0].file, files).width
    properties = {"grid-size": GRID_SIZES.get(width, "regular")}
    names = [{"filename": f"{_stem(one)}.sticker"} for one in record.stickers]
    made = {
        "Stickers.xcstickers/Contents.json": json_bytes({"info": XCODE}),
        f"{folder}/Contents.json": json_bytes({"info": XCODE, "properties": properties, "stickers": names}),
    }
    for one in record.stickers:
        about = {"info": XCODE, "properties": {"accessibility-label": one.text, "filename": one.file}}
        made[f"{folder}/{_stem(one)}.sticker/Contents.json"] = json_bytes(about)
        made[f"{folder}/{_stem(one)}.sticker/{one.file}"] = files[one.file]
    return made


def _matrix(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    usage = [record.kind]
    images = {_stem(one): _matrix_image(one, files) for one in record.stickers}
    pack = {"display_name": record.title, "usage": usage, "attribution": texts.author}
    content = {"images": images, "pack": pack}
    return {
        f"{event}.json": json_bytes({"type": event, "state_key": record.name, "content": content})
        for event in MATRIX_EVENTS
    }


def _matrix_image(one: StickerRecord, files: SetFiles) -> dict[str, Any]:
    found = _facts(one.file, files)
    mime = MIME[one.file.rpartition(".")[2]]
    info = {"w": found.width, "h": found.height, "size": len(files[one.file]), "mimetype": mime}
    return {"url": one.file, "body": one.text or one.slot, "info": info}


def _mastodon(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"emoji.tar.gz": tar_gz_of(files)}


def _misskey(record: PackRecord, files: SetFiles, texts: PackTexts, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    emojis = [
        {
            "downloaded": True,
            "fileName": one.file,
            "emoji": {"name": _stem(one), "category": record.title, "aliases": list(one.keywords)},
        }
        for one in record.stickers
    ]
    meta = {"metaVersion": 2, "host": "", "exportedAt": "1980-01-01T00:00:00.000Z", "emojis": emojis}
    return {"emoji.zip": zip_of({"meta.json": json_bytes(meta), **files})}


def _facts(file: str, files: SetFiles) -> FileFacts:
    try:
        return facts(files[file])
    except MediaError as error:
        raise PackError(f"The sticker {file} cannot be packed: {error}.") from error


def _stem(one: StickerRecord) -> str:
    return one.file.rpartition(".")[0]


_Maker = Callable[[PackRecord, SetFiles, PackTexts, Mapping[str, bytes]], dict[str, bytes]]
_BY_PLATFORM: Mapping[str, _Maker] = {
    "whatsapp": _whatsapp,
    "line": _line,
    "signal": _signal,
    "discord": _discord,
    "imessage": _imessage,
    "matrix": _matrix,
    "mastodon": _mastodon,
    "misskey": _misskey,
}

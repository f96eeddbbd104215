"""Captions that a person, or another tool, left beside pictures: which text belongs to which picture, and its words.

Files are found and judged by the inventory; what becomes of a caption is the business of tagging.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import unchanged_bytes

COLUMNS = ["path", "caption_file", "caption"]
SUFFIXES = (".txt", ".caption")  # sd-scripts' usual values of caption_extension, in this order
MAX_BYTES = 20_000  # of one caption; longer texts are licences and stories


def name_captions(inventory: pd.DataFrame) -> pd.DataFrame:
    """The inventory with the `reason` of each ignored text that is a picture's caption saying whose it is."""
    table = inventory.copy()
    owners = {caption: path for path, caption in reversed(captions_of(inventory).items())}
    for row in table.index[table["path"].isin(owners)]:
        table.loc[row, "reason"] = f"the caption of {owners[table.loc[row, 'path']]}"
    return table


def captions_of(inventory: pd.DataFrame) -> dict[str, str]:
    """The path of each accepted picture that has a caption -> the path of its caption.

    `fox.txt` and `fox.caption` belong to every picture called fox, whatever its ending; `fox.png.txt` to fox.png alone,
    and goes first.
    """
    text = (inventory["status"] == "ignored") & (inventory["sha256"] != "") & (inventory["bytes"] <= MAX_BYTES)
    texts = set(inventory.loc[text & inventory["path"].str.endswith(SUFFIXES), "path"])
    found = {}
    for path in inventory.loc[inventory["status"] == "accepted", "path"]:
        stem = PurePosixPath(path).with_suffix("").as_posix()
        candidates = [name + suffix for name in (path, stem) for suffix in SUFFIXES]
        caption = next((name for name in candidates if name in texts), None)
        if caption:
            found[path] = caption
    return found


def read_captions(folder: Path, inventory: pd.DataFrame) -> pd.DataFrame:
    """The captions of the accepted pictures below `folder`, with the columns COLUMNS, in the order of the inventory.

    Lines are joined by commas, since some tools write a tag to a line; a file without a word is no caption. Raises
    MediaError, naming the file, when it changed since the inventory was made.
    """
    digests = dict(zip(inventory["path"], inventory["sha256"], strict=True))
    rows = []
    for path, caption_file in captions_of(inventory).items():
        caption = _read(folder / caption_file, digests[caption_file])
        if caption:
            rows.append((path, caption_file, caption))
    return pd.DataFrame(rows, columns=COLUMNS).astype(str)


def _read(path: Path, digest: str) -> str:
    try:
        data = unchanged_bytes(path, digest)
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from error
    lines = data.decode("utf-8-sig").splitlines()
    return ", ".join(line.strip().strip(",").strip() for line in lines if line.strip(" ,\t"))

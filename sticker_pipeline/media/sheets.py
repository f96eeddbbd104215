"""Contact sheets of kept, dropped and nearly duplicate frames, from decoding's previews."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import contact_sheet
from sticker_pipeline.media.frames import PREVIEW_SIDE

PAGE_CELLS = 240
COLUMNS = 10  # the UI shows images of up to 960 pixels whole
NEARLY = "nearly the same image"
FOLDER = "sheets"  # of the pages in an artifact
SHEET_CELLS, DROPPED_CELLS, PAIR_CELLS = 60, 36, 36  # in the UI
LINES = 4  # of text per dropped frame
NAME_LETTERS = 14  # that fit below a preview

Place = tuple[str, int]  # path and number of a frame
Previews = Mapping[Place, bytes]


@dataclass(frozen=True)
class Cells:
    """Previews and captions of a sheet."""

    previews: Sequence[bytes]
    captions: Sequence[str]

    def spread(self, most: int, each: int = 1) -> "Cells":
        """Return at most `most` cells, evenly spread, in runs of `each`."""
        runs = np.arange(len(self.previews)).reshape(-1, each)
        chosen = runs[:: max(1, -(-len(runs) // (most // each)))].ravel().tolist()
        return Cells([self.previews[cell] for cell in chosen], [self.captions[cell] for cell in chosen])


def previews_of(decoded: Mapping[str, pd.DataFrame]) -> Previews:
    """Return every decoded frame's preview; `decoded`: as for frame_table."""
    return {
        (path, number): preview
        for path, table in decoded.items()
        for number, preview in zip(table["frame_index"], table["preview"], strict=True)
    }


def cells_of(frames: pd.DataFrame, decoded: Mapping[str, pd.DataFrame]) -> dict[str, Cells]:
    """Return cells of "kept", "dropped" and "near_duplicates"."""
    previews = previews_of(decoded)
    return {
        "kept": kept_cells(frames, previews),
        "dropped": dropped_cells(frames, previews),
        "near_duplicates": near_duplicate_cells(frames, previews),
    }


def write_pages(cells: Mapping[str, Cells], folder: Path) -> None:
    """Write sheets of all `cells` into `folder`, named by kind."""
    folder.mkdir(exist_ok=True)
    for name, part in cells.items():
        for number, page in enumerate(pages(part, LINES if name == "dropped" else 1), start=1):
            page.save(folder / f"{name}_{number:03}.webp", quality=85)


def kept_sheet(cells: Mapping[str, Cells]) -> Image.Image:
    """Return one sheet of some kept frames."""
    return sheet(cells["kept"].spread(SHEET_CELLS))


def dropped_sheets(cells: Mapping[str, Cells]) -> dict[str, tuple[Image.Image, str]]:
    """Return titled sheets of some dropped frames and near duplicates, if any."""
    found = {}
    if cells["dropped"].previews:
        found["dropped_frames"] = sheet(cells["dropped"].spread(DROPPED_CELLS), LINES), "dropped frames"
    if cells["near_duplicates"].previews:
        pairs = sheet(cells["near_duplicates"].spread(PAIR_CELLS, each=2))
        found["near_duplicates"] = pairs, "merged frames, each with its representative"
    return found


def kept_cells(frames: pd.DataFrame, previews: Previews) -> Cells:
    """Return every kept frame with file name and number."""
    kept = frames[frames["kept"]]
    places = list(zip(kept["path"], kept["frame_index"], strict=True))
    return Cells([previews[place] for place in places], [_name(*place) for place in places])


def dropped_cells(frames: pd.DataFrame, previews: Previews) -> Cells:
    """Return every dropped frame with name and reason."""
    dropped = frames[~frames["kept"]]
    places = list(zip(dropped["path"], dropped["frame_index"], strict=True))
    place_of = _places(frames)
    captions = [
        f"{_name(*place)}\n{_why(reason, place_of.get(keeper))}"
        for place, reason, keeper in zip(places, dropped["reason"], dropped["duplicate_of"], strict=True)
    ]
    return Cells([previews[place] for place in places], captions)


def near_duplicate_cells(frames: pd.DataFrame, previews: Previews) -> Cells:
    """Return two cells per near duplicate: it and its representative."""
    merged = frames[frames["reason"].str.startswith(NEARLY)]
    place_of = _places(frames)
    places = [
        place_of[frame] for pair in zip(merged["frame_id"], merged["duplicate_of"], strict=True) for frame in pair
    ]
    captions = [f"{'= ' if number % 2 else ''}{_name(*place)}" for number, place in enumerate(places)]
    return Cells([previews[place] for place in places], captions)


def sheet(cells: Cells, lines: int = 1) -> Image.Image:
    """Return one image of all `cells`, with at most `lines` lines each."""
    images = [_image(preview) for preview in cells.previews]
    return contact_sheet(images, cells.captions, cell=PREVIEW_SIDE, columns=COLUMNS, lines=lines)


def pages(cells: Cells, lines: int = 1) -> Iterator[Image.Image]:
    """Yield sheets of all cells, at most PAGE_CELLS each."""
    for start in range(0, len(cells.previews), PAGE_CELLS):
        part = slice(start, start + PAGE_CELLS)
        yield sheet(Cells(cells.previews[part], cells.captions[part]), lines)


def _places(frames: pd.DataFrame) -> dict[str, Place]:
    places = zip(frames["path"], frames["frame_index"], strict=True)
    return dict(zip(frames["frame_id"], places, strict=True))


def _name(path: str, number: int) -> str:
    """Return the shortened file name and nonzero frame number, in NAME_LETTERS."""
    name, suffix = path.rpartition("/")[2], f" {number}" if number else ""
    room = NAME_LETTERS - len(suffix)
    return (name if len(name) <= room else f"{name[: room - 2]}..") + suffix


def _why(reason: str, keeper: Place | None) -> str:
    if keeper is None:
        return reason
    return f"{'nearly ' if reason.startswith(NEARLY) else ''}the same as {_name(*keeper)}"


def _image(preview: bytes) -> Image.Image:
    """Return the preview; a transparent dot for undecoded frames."""
    return Image.open(io.BytesIO(preview)) if preview else Image.new("RGBA", (1, 1))

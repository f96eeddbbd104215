"""Pages of a pack for tests: a plain one, and one whose names attack it."""

from pathlib import Path

from PIL import Image

from sticker_pipeline.packing.page import PageCandidate, PageData, PageSlot, pack_page
from sticker_pipeline.packing.picks import Picks

ATTACKS = (
    "</script><script>window.attacked = 1</script>",
    "\"><img src=x onerror='window.attacked = 1'>",
    "'; window.attacked = 1; //",
    "{{ 7 * 7 }}",
    "__proto__",
    "no",
    "a: b # c",
    "line\nbreak\ttab \\ slash",
    "\u202eright to left\u2028separator\x85\ufeff",
    "<!--",
    "&lt;b&gt;",
    "- [x, {y}] *z &w !v |",
    "\x00\x1b[31m",
    "🙏 ❤️‍🔥",
    "\u2028" * 250,
)
NOT_UTF_8 = "not utf-8 \udcff"


def candidate(name: str, chosen: bool = False, origin: str = "generated", reason: str = "") -> PageCandidate:
    return PageCandidate(
        id=name,
        file="images/a.png",
        thumbnail="images/small.png",
        origin=origin,  # type: ignore[arg-type]
        chosen=chosen,
        reason=reason,
        measures=(("fidelity", "0.75"),),
    )


def plain(picks: Picks | None = None) -> PageData:
    return PageData(
        title="Bram",
        author="Mira",
        picks=picks or Picks(),
        picks_file="data/characters/bram/pack/picks.yaml",
        slots=(
            PageSlot(
                "hello",
                ("👋",),
                "waving hello",
                ("hello", "hi"),
                candidates=(
                    candidate("hello-1", reason="the subject is cut off"),
                    candidate("hello-2", True, reason="the best of its slot"),
                    candidate("stickers/happy.png", origin="own", reason="a better one is there"),
                ),
            ),
            PageSlot("thanks", ("🙏",), "saying thank you", ("thanks",), candidates=(candidate("thanks-1"),)),
            PageSlot("sorry", ("🙇",), "saying sorry", ("sorry",)),
            PageSlot(
                "yes", ("👍",), candidates=(candidate("yes-1"), candidate("yes", True, "override", "a person's file"))
            ),
        ),
    )


def hostile() -> PageData:
    """Every text of the page is an attack; each is a slot with two candidates, the last is not UTF-8."""
    slots = tuple(
        PageSlot(
            name,
            ("👋",),
            name,
            (name,),
            candidates=(
                PageCandidate(
                    f"{name}1", "images/a.png", "images/small.png", "own", True, name, ((name, name),)
                ),
                PageCandidate(f"{name}2", "images/a.png", "images/small.png", "generated", False, name),
            ),
        )
        for name in (*ATTACKS, NOT_UTF_8)
    )  # fmt: skip
    return PageData(
        title=ATTACKS[0], author=ATTACKS[1], slots=slots, problems=(*ATTACKS, NOT_UTF_8), picks_file=ATTACKS[1]
    )


def many(slots: int, each: int) -> PageData:
    return PageData(
        title="Many",
        slots=tuple(
            PageSlot(
                f"slot_{number}",
                ("👋",),
                candidates=tuple(candidate(f"{number}-{place}", place == 0) for place in range(each)),
            )
            for number in range(slots)
        ),
    )


def write_page(data: PageData, folder: Path) -> Path:
    """Write the page and its two images into `folder`; return its path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, side in (("a.png", 200), ("small.png", 64)):
        image = Image.new("RGBA", (side, side))
        image.paste((200, 60, 20, 255), (side // 4, side // 4, side // 2, side // 2))
        image.save(folder / "images" / name)
    path = folder / "pack.html"
    path.write_text(pack_page(data), encoding="utf-8")
    return path

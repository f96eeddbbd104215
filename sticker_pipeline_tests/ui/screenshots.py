"""`make screenshots`: the UI's images for the README, written to docs/images.

    python -m sticker_pipeline_tests.ui.screenshots [FOLDER]

Makes everything for the demo characters first (minutes), in FOLDER or in a temporary one, and a newcomer's folder with
an image of another character in it.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.storage import ALL
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.small_character import DEMO, add_small_character
from sticker_pipeline_tests.ui.deployment import Deployment, deployment
from sticker_pipeline_tests.ui.person import CHROMIUM, Person, browser, visit

IMAGES = REPOSITORY / "docs" / "images"
MOST_BYTES = 150_000
CHARACTER = "pip_comet"
NEWCOMER = "luma"
SETTINGS = "trigger: skv_luma\ngroups: {gifs: {}, stickers: {}, art: {medium: art}}\ntraining: {epochs: 12}\n"
EPOCHS_SEEN = 5  # of a training under way, so that there is a curve


def main() -> None:
    if CHROMIUM is None:
        sys.exit("There is no chromium, which takes the images: install the package of that name.")
    if len(sys.argv) > 1:
        take(Path(sys.argv[1]).absolute())
        return
    with tempfile.TemporaryDirectory() as folder:
        take(Path(folder))


def take(root: Path) -> None:
    """Take every image, of two deployments in `root`; existing work is kept."""
    of_the_demo(root / "demo")
    of_a_newcomer(root / "newcomer")


def of_the_demo(root: Path) -> None:
    """The lineage, and assets with their images."""
    if not root.is_dir():
        shutil.copytree(DEMO, root / "characters")
    with deployment(root) as ui, browser() as chromium, visit(chromium, ui.url) as person:
        ui.command("demo")
        with visit(chromium, ui.url) as somebody_else:
            lineage(somebody_else)
            report(ui, somebody_else)
            desk(somebody_else, 1320, "desk")
            desk(somebody_else, 390, "desk-phone")
            pack_page(ui, somebody_else, 1320, "pack-page")
            save_image(Image.open(ui.store.read(CHARACTER, "sticker_pack").folder / "sheet.png"), "pack-sheet")
            pack_page(ui, somebody_else, 390, "pack-page-phone")
        for asset, key in (
            ("frames", "kept_frames"),
            ("curated_tags", "word_cloud"),
            ("lora", "samples"),
            ("benchmark", "side_by_side"),
        ):
            person.partition(asset, CHARACTER)
            person.image(key)
            save(person, f"ui-{asset}")
            person.close_dialog()


def of_a_newcomer(root: Path) -> None:
    """Take a training under way, and a check that failed.

    An image of another character is in the folder.
    """
    folder = root / "characters" / NEWCOMER
    if not folder.is_dir():
        add_small_character(folder, CHARACTER, SETTINGS)
        shutil.copy(DEMO / "velvet_moth" / "stickers" / "um.png", folder / "stickers")
    with deployment(root) as ui, browser() as chromium, visit(chromium, ui.url) as person:
        person.wait_for_partition(NEWCOMER)
        training(ui, person)
        failed_check(person)


def lineage(person: Person) -> None:
    """Save the lineage by groups, without the panels beside it."""
    page = person.page
    page.set_viewport_size({"width": 1320, "height": 760})
    person.lineage()
    page.get_by_text("Hide navigation").click()
    page.reload()  # the graph fits its place when it is drawn
    person.boxes("publishing")
    page.get_by_label("panel_show_right").last.click()
    save(person, "lineage")


def report(ui: Deployment, person: Person) -> None:
    """Save the first screen of the report's index."""
    page = person.page
    page.set_viewport_size({"width": 1320, "height": 760})
    page.goto(f"file://{ui.store.read(ALL, 'report').folder / 'report.html'}")
    save(person, "report")


def desk(person: Person, width: int, name: str) -> None:
    """Save the images of the desk, one of them open, and its comparison."""
    page = person.page
    page.set_viewport_size({"width": width, "height": 760})
    person.go_to(f"/desk/c/{CHARACTER}")
    page.locator(".cell:has(img)").nth(3).click()
    page.wait_for_selector("#caption")
    save(person, name)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector(".comparison img")
    save(person, f"{name}-compare")


def pack_page(ui: Deployment, person: Person, width: int, name: str) -> None:
    """Save the first candidates of the sticker pack's page."""
    page = person.page
    page.set_viewport_size({"width": width, "height": 760})
    page.goto((ui.store.read(CHARACTER, "sticker_pack").folder / "pack.html").as_uri())
    page.locator(".card .large").first.evaluate("(image) => image.decode()")
    save(person, name)


def training(ui: Deployment, person: Person) -> None:
    """A run under way, and its live curves."""
    person.job("character_line")
    run = person.launch(NEWCOMER)
    person.go_to(run)
    samples = ui.store.work(NEWCOMER, "lora") / "samples"
    while not list(samples.glob(f"epoch_{EPOCHS_SEEN:02}_*")):
        assert ui.processes(), "the server has ended"
        person.page.wait_for_timeout(500)
    save(person, "ui-run")
    person.asset("lora")
    person.page.get_by_role("button", name="Plots").click()
    person.page.get_by_role("button", name="Events").click()
    person.page.get_by_text("holdout_loss", exact=True).scroll_into_view_if_needed()
    save(person, "ui-live")
    person.terminate(run)


def failed_check(person: Person) -> None:
    """A check that failed, with its evidence: the sentence and the table, and the images."""
    person.asset("frames", "Checks")
    person.page.get_by_text("same_character", exact=True).first.click()
    person.entry("evidence")
    save(person, "ui-failed_check")
    person.image("outliers")
    save(person, "ui-checks")


def save(person: Person, name: str) -> None:
    """Write what is seen as docs/images/<name>.webp, small enough for a repository."""
    person.page.wait_for_timeout(3000)  # until statuses and animations have come to rest; no condition says so
    save_image(Image.open(io.BytesIO(person.page.screenshot())), name)


def save_image(seen: Image.Image, name: str) -> None:
    for quality in (85, 70, 50):
        written = io.BytesIO()
        seen.save(written, "webp", quality=quality, method=6)
        if written.tell() <= MOST_BYTES:
            break
    (IMAGES / f"{name}.webp").write_bytes(written.getvalue())
    print(f"{name}.webp {written.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()

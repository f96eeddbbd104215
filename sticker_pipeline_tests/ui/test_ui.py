"""A person works in a browser: materializes, looks, cancels, and reads errors."""

import re

import pytest

from sticker_pipeline.core.storage import ALL
from sticker_pipeline.media.inventory import rejected_files
from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.ui.deployment import Deployment
from sticker_pipeline_tests.ui.person import MINUTE, Person

pytestmark = pytest.mark.timeout(1800)  # seconds a test, on a machine that is busy with other things
CHAIN = ["raw_media", "frames", "wd14_tags", "curated_tags", "training_set", "lora", "selected_lora", "samples"]
CHAIN += ["benchmark", "released_lora", "report"]
GROUPS = {"character", "media", "sampling", "tagging", "dataset", "lora_training", "generation", "benchmark"}
GROUPS |= {"publishing", "on_request", "profile", "style"}
TRAINER = "sticker_pipeline.training"


def test_a_character_is_materialized_from_the_ui(ui: Deployment, luma: str, person: Person) -> None:
    person.follow_link("Runs")
    person.page.get_by_role("link", name="character_line").first.wait_for()
    assert person.page.get_by_text(luma, exact=True).first.is_visible()
    made = {asset for asset in CHAIN if ui.store.find(luma, asset)}
    assert made == set(CHAIN) - {"report"}, "which is of all characters together"
    person.partition("benchmark", luma)
    person.page.get_by_text("Materialized", exact=True).wait_for()


def test_the_folder_sensor_has_added_a_folder(clumsy: str, person: Person) -> None:
    person.follow_link("Automation")
    person.follow_link("character_folders")
    person.page.get_by_text("Adds a partition for each folder").wait_for()
    person.page.get_by_text("Running", exact=True).wait_for()
    person.wait_for_partition(clumsy)


def test_the_lineage_shows_the_groups(ui: Deployment, person: Person) -> None:
    person.lineage()
    assert {box["name"] for box in person.boxes("publishing") if box["group"]} >= GROUPS


def test_a_click_leads_upstream_and_downstream(ui: Deployment, person: Person) -> None:
    person.page.set_viewport_size({"width": 3000, "height": 1800})
    person.asset("training_set", "Lineage")
    around = {box["name"] for box in person.boxes("curated_tags") if not box["group"]}
    assert around >= {"frames", "frame_weights", "curated_tags", "training_set", "lora"}
    assert "raw_media" not in around, "only neighbours at first"
    person.page.locator("svg foreignObject", has_text="curated_tags").last.click()
    person.page.wait_for_url("**/assets/curated_tags**")
    person.page.get_by_text("Upstream", exact=True).click()
    person.page.get_by_role("button", name="All", exact=True).click()
    before = {box["name"] for box in person.boxes("raw_media") if not box["group"]}
    assert before >= {"raw_media", "frames", "wd14_tags", "captions"}
    assert "lora" not in before
    person.asset("lora", "Lineage")
    person.page.get_by_text("Downstream", exact=True).click()
    person.page.get_by_role("button", name="All", exact=True).click()
    after = {box["name"] for box in person.boxes("report") if not box["group"]}
    assert after >= set(CHAIN[CHAIN.index("lora") :])
    assert "training_set" not in after


@pytest.mark.parametrize(
    ("asset", "keys"),
    [
        ("frames", ["kept_frames", "dropped_frames"]),
        ("frame_weights", ["shares"]),
        ("curated_tags", ["word_cloud", "tags_per_image"]),
        ("training_set", ["trained_on", "holdout"]),
        ("lora", ["fixed_images", "samples"]),
        ("samples", ["same_noise"]),
        ("benchmark", ["side_by_side", "similarity_chart"]),
    ],
)
def test_images_show(luma: str, person: Person, asset: str, keys: list[str]) -> None:
    person.partition(asset, luma)
    for key in keys:
        image = person.image(key)
        width, height = image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
        assert width > 150, key
        assert height > 80, key
        assert image.evaluate("(image) => image.clientWidth") <= 1440, "it fits the screen"
        assert image.get_attribute("alt"), key
        person.close_dialog()


def test_tables_show_what_was_published(ui: Deployment, luma: str, person: Person) -> None:
    inventory = ui.store.read(luma, "raw_media").table()
    person.partition("raw_media", luma)
    shown = person.table("files")
    assert [row[0] for row in shown[1:]] == inventory["path"].tolist()
    assert f"{(inventory['status'] == 'accepted').sum()} files accepted" in person.entry("summary").inner_text()
    frames = ui.store.read(luma, "frames").table()
    person.partition("frames", luma)
    assert f"{frames['kept'].sum()} of {len(frames)} frames kept" in person.entry("summary").inner_text()
    head, *rows = person.table("why_dropped")
    assert head == ["reason", "frames"]
    assert sum(int(row[1]) for row in rows) == (~frames["kept"]).sum()
    table = ui.store.read(luma, "benchmark").table()
    person.partition("benchmark", luma)
    head, *rows = person.table("table")
    assert head == table.columns.tolist()
    assert [row[:3] for row in rows] == table[head[:3]].to_numpy().tolist()


def test_a_failed_check_says_what_to_mend(ui: Deployment, clumsy: str, luma: str, person: Person) -> None:
    person.asset("raw_media")
    run = person.launch(clumsy)
    assert person.follow(run) == "SUCCESS", "it warns, and stops nothing"
    person.asset("raw_media", "Checks")
    page = person.page
    page.get_by_text("rejected_files", exact=True).first.click()
    page.get_by_text("No file that was meant as an image is refused.").wait_for()
    page.get_by_text(rejected_files(ui.store.read(clumsy, "raw_media").table()).summary).wait_for()
    assert page.get_by_text("Failed", exact=True).count() == 2, "in the list, and in the result"
    assert page.get_by_text(clumsy, exact=True).first.is_visible()
    assert person.table("evidence") == [
        ["path", "status", "reason"],
        ["gifs/cut_off.gif", "rejected", "the GIF is cut off inside its header"],
    ]
    page.get_by_role("tablist").last.get_by_text("Partitions", exact=True).click()
    page.get_by_text("Failed (1)", exact=True).wait_for()
    page.get_by_text("Passed (1)", exact=True).wait_for()


def test_the_report_opens_from_its_asset(ui: Deployment, luma: str, person: Person) -> None:
    person.job("leaderboard_table")
    assert person.follow(person.launch()) == "SUCCESS"
    person.asset("report")
    person.entry("page").get_by_title("Copy to clipboard").first.click()
    copied = person.page.evaluate("navigator.clipboard.readText()")
    assert copied == str(ui.store.read(ALL, "report").folder / "report.html")
    person.page.goto(f"file://{copied}")  # as the address bar does
    person.page.get_by_role("searchbox").fill(luma[:3])
    person.page.get_by_role("link", name=luma, exact=True).click()
    person.page.get_by_role("heading", name=luma, exact=True).wait_for()
    assert person.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_a_cancelled_training_leaves_a_state_and_no_process(ui: Deployment, luma: str, person: Person) -> None:
    long = SETTINGS.replace("epochs: 2, samples_per_epoch: 96", "epochs: 50, samples_per_epoch: 400")
    (ui.characters / luma / "character.yaml").write_text(long, encoding="utf-8")
    before = ui.store.read(luma, "lora").data_version
    person.asset("lora")
    run = person.launch(luma)
    person.go_to(run)
    page = person.page
    page.get_by_text("ASSET_OBSERVATION").first.wait_for(timeout=5 * MINUTE)
    person.tag(run, re.compile(r"progress: lora: epoch \d+ of 50, \d+ %"))
    assert ui.processes(TRAINER)
    assert person.terminate(run) == "CANCELED"
    assert ui.processes(TRAINER) == []
    (state,) = (ui.store.work(luma, "lora") / "state").glob("step_*")
    assert int(state.name.split("_")[1]) > 0
    assert {path.name for path in state.iterdir()} >= {"lora.safetensors", "optimizer.safetensors", "state.json"}
    assert ui.store.read(luma, "lora").data_version == before, "what was published stays"
    person.partition("lora", luma)
    page.get_by_text("was canceled, and did not materialize this asset").wait_for()

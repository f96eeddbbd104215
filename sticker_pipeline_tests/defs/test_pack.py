"""A sticker pack through Dagster: opt-in, own files alone, with a release, a person's wishes."""

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from sticker_pipeline.benchmark.releases import place, publish, releases_folder
from sticker_pipeline.cli.update import make_pack
from sticker_pipeline.defs.pack.asked import asks
from sticker_pipeline.packing.checks import CHECKS
from sticker_pipeline.packing.pack_record import read_pack, read_stickers
from sticker_pipeline.packing.picks import load_picks
from sticker_pipeline.packing.platforms import platform_kind
from sticker_pipeline.packing.verify import verify
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.test_sampling_grid import plant
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.ui.person import CHROMIUM, browser

NAME = "small"
PACK = """
pack:
  platforms: [telegram, signal]
  slots: [hello, cry]
  seeds: 2
"""
PACK_ASSETS = ["pack_candidates", "sticker_pack"]


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def pack(bench: Bench, *platforms: str) -> bool:
    character, _ = bench.character(NAME)
    return make_pack(bench.definitions, bench.instance, bench.workspace, character, platforms, Console(quiet=True))


def index(bench: Bench, name: str = "index.parquet") -> pd.DataFrame:
    return bench.store.read(NAME, "sticker_pack").table(name)


def candidates(bench: Bench) -> pd.DataFrame:
    return bench.store.read(NAME, "pack_candidates").table()


def verdicts(bench: Bench) -> dict[str, bool]:
    keys = [dg.AssetCheckKey(dg.AssetKey("sticker_pack"), name) for name in CHECKS]
    storage = bench.instance.event_log_storage
    found = {}
    for key in keys:
        (record,) = storage.get_asset_check_execution_history(key, limit=1)
        assert record.evaluation is not None
        found[key.name] = record.evaluation.passed
    return found


def release(bench: Bench, folder: Path, seed: int) -> int:
    """Publish a LoRA that changes one layer."""
    content = plant(bench.store, NAME, "selected_lora", seed).read_bytes()
    changes = {
        "character": NAME,
        "beginnings": {"sticker": ["skv_small"], "art": ["skv_small"]},
        "trigger": "skv_small",
    }
    found = publish(releases_folder(bench.store, NAME), candidate(folder, content, **changes), datetime.now(UTC))
    with bench.store.writing(NAME, "released_lora") as staging:
        place(found.release, staging)
        bench.store.publish(staging, NAME, "released_lora", code_version="2", inputs={}, settings={})
    return found.release.record.number


@pytest.fixture(scope="module")
def small(bench: Bench) -> Iterator[Bench]:
    bench.add_character(NAME, "pip_comet")
    bench.instance.add_dynamic_partitions("characters", [NAME])
    job = bench.definitions.resolve_job_def("dataset_line")
    assert job.execute_in_process(instance=bench.instance, partition_key=NAME).success
    yield bench


def test_nobody_asked_for_a_pack(small: Bench) -> None:
    assert not asks(small.folder(NAME))
    assert not set(PACK_ASSETS) & set(small.stale(NAME, "pack_line"))
    job = small.definitions.get_implicit_global_asset_job_def()
    beside = [dg.AssetKey(name) for name in ("frame_weights", "pack_candidates")]
    assert job.execute_in_process(instance=small.instance, partition_key=NAME, asset_selection=beside).success
    assert small.store.find(NAME, "pack_candidates") is None


def test_a_character_without_a_release_has_a_pack_of_its_own(small: Bench) -> None:
    before = hashes(small.folder(NAME))
    assert pack(small, "telegram")
    assert hashes(small.folder(NAME)) == before
    for asset in PACK_ASSETS:
        small.check_tables(asset, NAME, NAME)
    rows = candidates(small)
    assert set(rows["origin"]) == {"own"} and len(rows) == 7
    assert all(
        reason in ("", f"it shows the same as {twin}")
        for reason, twin in zip(rows["reason"], rows["twin"], strict=True)
    )
    assert not rows["source"].str.startswith("art/").any()
    table = index(small)
    assert set(table["platform"]) == {"telegram"} and set(table["kind"]) == {"static", "video"}
    assert (table["release"] == 0).all() and (table["prompt"] == "").all()
    folder = small.store.folder(NAME, "sticker_pack")
    for path in sorted((folder / "telegram").iterdir()):
        if path.is_dir():
            record = read_pack(path)
            for data in read_stickers(path, record):
                assert verify(data, platform_kind("telegram", record.kind)) == []
    assert verdicts(small)["fits_platforms"]
    summary = str(small.metadata("sticker_pack", NAME)["summary"])
    assert summary.startswith(f"{table['slot'].nunique()} stickers: telegram 2 sets; ")
    assert "made with platforms = ['telegram'] by its launch" in summary


def test_a_line_in_the_settings_asks_for_it(small: Bench) -> None:
    file = small.folder(NAME) / "character.yaml"
    file.write_text(SETTINGS + PACK)
    assert asks(small.folder(NAME))
    assert set(PACK_ASSETS) <= set(small.stale(NAME, "pack_line"))
    assert pack(small)
    assert not set(PACK_ASSETS) & set(small.stale(NAME, "pack_line"))
    assert set(index(small)["platform"]) == {"telegram", "signal"}
    assert pack(small, "discord")  # also of a pack that is up to date
    assert set(index(small)["platform"]) == {"discord"}
    assert "no cry" in str(small.metadata("sticker_pack", NAME)["note"])


def test_a_release_fills_the_gaps_and_a_copy_is_refused(small: Bench, tmp_path: Path) -> None:
    number = release(small, tmp_path, 1)
    assert set(PACK_ASSETS) <= set(small.stale(NAME, "pack_line"))
    assert pack(small)
    rows = candidates(small)
    generated = rows[rows["origin"] == "generated"]
    assert generated["slot"].value_counts().to_dict() == {"hello": 2, "cry": 2}
    assert (generated["release"] == number).all() and generated["prompt"].str.startswith("skv_small").all()
    assert generated["nearest"].between(-1, 1).all() and generated["fidelity"].between(0, 1).all()
    choice = index(small, "choice.parquet")
    assert (choice["reason"] != "").all()
    again = [small.store.read(NAME, asset).data_version for asset in PACK_ASSETS]
    assert pack(small)
    assert [small.store.read(NAME, asset).data_version for asset in PACK_ASSETS] == again


def test_what_was_accepted_stays_after_a_retraining(small: Bench, tmp_path: Path) -> None:
    rows = candidates(small)
    wanted = rows[(rows["origin"] == "generated") & (rows["slot"] == "cry")].iloc[0]
    picks = small.folder(NAME) / "pack" / "picks.yaml"
    picks.parent.mkdir()
    picks.write_text(
        f"title: My Pip\naccept: {{cry: {wanted['candidate']}}}\nemoji: {{cry: [😿]}}\ntext: {{cry: oh no}}\n"
    )
    assert small.stale(NAME, "pack_line") == ["sticker_pack"]
    assert pack(small)
    first = index(small)
    number = release(small, tmp_path, 2)
    assert pack(small)
    assert wanted["candidate"] not in candidates(small)["candidate"].tolist()
    assert (candidates(small)["release"].isin([0, number])).all()
    table = index(small)
    kept = table[table["slot"] == "cry"]
    assert set(kept["candidate"]) == {wanted["candidate"]} and set(kept["release"]) == {number - 1}
    same = first[first["slot"] == "cry"].set_index("platform")["sha256"].to_dict()
    assert kept.set_index("platform")["sha256"].to_dict() == same
    (place,) = {path for path in table[table["slot"] == "cry"]["set"] if "telegram" in set(table["platform"])}
    record = read_pack(small.store.folder(NAME, "sticker_pack") / "telegram" / place)
    assert record.title == "My Pip"
    (cry,) = (one for one in record.stickers if one.slot == "cry")
    assert cry.emoji == ("😿",) and cry.text == "oh no" and cry.generated


def test_a_file_of_a_person_wins_and_a_wrong_one_is_named(small: Bench) -> None:
    folder = small.folder(NAME) / "pack" / "override"
    folder.mkdir()
    image = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (40, 40, 240, 160))
    image.save(folder / "cry.png")
    (folder / "hello.png").write_bytes(b"no image")
    before = hashes(small.folder(NAME))
    assert pack(small)
    assert hashes(small.folder(NAME)) == before
    table = index(small)
    assert set(table[table["slot"] == "cry"]["origin"]) == {"override"}
    assert "hello" not in set(table["slot"])
    assert "hello.png" in str(small.metadata("sticker_pack", NAME)["problems"])
    with Image.open(small.store.folder(NAME, "sticker_pack") / "masters" / "cry.png") as master:
        assert master.size == (300, 200)
    shutil.rmtree(folder)


def test_wrong_picks_are_refused_before_work(small: Bench) -> None:
    picks = small.folder(NAME) / "pack" / "picks.yaml"
    picks.write_text("acept: {}\n")
    version = small.store.read(NAME, "sticker_pack").data_version
    assert not pack(small)
    assert small.store.read(NAME, "sticker_pack").data_version == version


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_the_page_of_the_pack_gives_picks_that_change_it_as_it_says(small: Bench) -> None:
    pytest.importorskip("playwright.sync_api")
    folder, place = small.folder(NAME), small.store.folder(NAME, "sticker_pack")
    file = folder / "pack" / "picks.yaml"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    assert pack(small)
    choice = index(small, "choice.parquet")
    chosen = choice[choice["chosen"]].sort_values("position")
    others = choice[~choice["chosen"] & (choice["image"] != "") & choice["slot"].isin(chosen["slot"])]
    slot, wanted = others.iloc[0][["slot", "candidate"]]
    unwanted = chosen[chosen["slot"] != slot].iloc[-1]
    assert set(choice["image"]) - {""} == {
        path.relative_to(place).as_posix() for path in (place / "page").iterdir() if "_small" not in path.name
    }
    with browser() as chromium:
        page = chromium.new_page()
        page.goto((place / "pack.html").as_uri())
        sections, cards = page.locator("section.slot"), page.locator(".card")
        own = sections.filter(has=page.get_by_role("heading", name=slot, exact=True))
        for name, button in ((wanted, "Accept"), (unwanted["candidate"], "Reject")):
            card = cards.filter(has=page.get_by_text(name, exact=True))
            card.get_by_role("button", name=button).click()
        own.get_by_label("Emoji").fill("🦊 🎉")
        own.get_by_label("Text").fill("with a fox")
        own.get_by_role("button", name=f"Move {slot} down").click()
        order = [str(name) for name in page.locator("main h2").all_text_contents()]
        said = page.input_value("#yaml")
    file.write_bytes(said.encode())
    picks = load_picks(folder)
    assert picks.accept == {slot: wanted} and picks.reject == [unwanted["candidate"]]
    assert picks.emoji == {slot: ["🦊", "🎉"]} and picks.text == {slot: "with a fox"}
    assert picks.order == order
    assert pack(small)
    after = index(small, "choice.parquet").set_index("candidate")
    assert after.loc[wanted, "chosen"] and after.loc[wanted, "reason"] == "accepted in picks.yaml"
    assert not after.loc[unwanted["candidate"], "chosen"]
    assert after.loc[unwanted["candidate"], "reason"] == "rejected in picks.yaml"
    made = after[after["chosen"]].sort_values("position")["slot"].tolist()
    named = [name for name in made if name in order]  # an own file that lost its slot has one of its own name now
    assert named == [name for name in order if name in made]
    table = index(small)
    for platform, name in set(zip(table["platform"], table["set"], strict=True)):
        stickers = read_pack(place / platform / name).stickers
        assert [one.slot for one in stickers] == [name for name in made if name in {one.slot for one in stickers}]
        for one in stickers:
            if one.slot == slot:
                assert one.text == "with a fox" and one.emoji[0] == "🦊"
    with browser() as chromium:
        page = chromium.new_page()
        page.goto((place / "pack.html").as_uri())
        assert page.input_value("#yaml") == said
        shown = [str(name) for name in page.locator("main h2").all_text_contents()]
        assert [name for name in shown if name in order] == order
        empty = [f"no {name}" for name in shown if name in ("hello", "cry") and name not in made]
        assert page.inner_text("#gaps") == (f"Gaps: {', '.join(empty)}." if empty else "Every slot has a sticker.")

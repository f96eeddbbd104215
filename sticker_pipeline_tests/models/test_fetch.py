"""Fetching with the real client from a hub on this machine."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from sticker_pipeline.core.known_models import FetchError, known_models, source_of
from sticker_pipeline.models import fetch as fetching
from sticker_pipeline.models import hub as hubs
from sticker_pipeline.models.fetch import fetch
from sticker_pipeline.models.lock import LOCK_FILE, problems
from sticker_pipeline.tagging import wd14
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.models.fake_hub import FakeHub, running
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

TAGGER, REPO = "wd-vit-tagger-v3", "SmilingWolf/wd-vit-tagger-v3"
CLIP, CLIP_REPO = "clip-vit-l-14-quickgelu-openai", "timm/vit_large_patch14_clip_224.openai"
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture(scope="module")
def tagger_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_tagger(tmp_path_factory.mktemp("tagger"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tagger_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    with running(FakeHub()) as server:
        server.commit(REPO, {**tagger_files, "README.md": b"a card", "model.safetensors": SAFETENSORS})
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def get(hub: FakeHub, models: Path, name: str = TAGGER, *, update: bool = False) -> str:
    """Fetch, and return what was said."""
    said: list[str] = []
    hub.asked.clear()
    fetch(source_of(name), models, models.parent / "memos", update=update, endpoint=hub.endpoint, say=said.append)
    return "\n".join(said)


def lock_of(models: Path, name: str = TAGGER) -> dict[str, object]:
    return json.loads((models / LOCK_FILE).read_text())[name]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_first_download_brings_what_is_needed_and_records_it(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes]
) -> None:
    get(hub, models)
    assert files_in(models) == {
        f"{TAGGER}/model.onnx",
        f"{TAGGER}/selected_tags.csv",
        LOCK_FILE,
        f"{fetching.STAGING}/lock",
    }
    assert lock_of(models) == {
        "repo": REPO,
        "revision": next(iter(hub.commits[REPO])),
        "files": {
            name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in tagger_files.items()
        },
    }
    assert wd14.open_tagger(models / TAGGER, "cpu").size == 40
    assert problems(models, models.parent / "memos") == []


def test_a_second_one_needs_no_network(hub: FakeHub, models: Path) -> None:
    get(hub, models)
    said = get(hub, models)
    assert hub.asked == []
    assert "complete and verified" in said


def test_a_deleted_file_comes_back_at_the_locked_revision_though_the_branch_moved(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes]
) -> None:
    get(hub, models)
    hub.commit(REPO, {name: data + b"#" for name, data in tagger_files.items()})
    (models / TAGGER / "selected_tags.csv").unlink()
    (missing,) = problems(models, models.parent / "memos")
    assert "selected_tags.csv" in missing and f"fetch-models {TAGGER}" in missing
    get(hub, models)
    assert hub.gets() == ["selected_tags.csv"]
    assert (models / TAGGER / "selected_tags.csv").read_bytes() == tagger_files["selected_tags.csv"]


def test_another_machine_with_the_lock_file_gets_the_same_files(
    hub: FakeHub, models: Path, tmp_path: Path, tagger_files: dict[str, bytes]
) -> None:
    get(hub, models)
    hub.commit(REPO, {name: data + b"#" for name, data in tagger_files.items()})
    (tmp_path / "other" / "models").mkdir(parents=True)
    shutil.copy(models / LOCK_FILE, tmp_path / "other" / "models")
    get(hub, tmp_path / "other" / "models")
    for name, data in tagger_files.items():
        assert (tmp_path / "other" / "models" / TAGGER / name).read_bytes() == data


def test_a_hub_that_serves_something_else_is_refused_and_the_good_file_stays(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes]
) -> None:
    get(hub, models)
    (models / TAGGER / "selected_tags.csv").unlink()
    size = len(tagger_files["selected_tags.csv"])
    other = tagger_files["selected_tags.csv"].replace(b"long", b"LONG")
    hub.served["selected_tags.csv"] = other
    with pytest.raises(FetchError, match=r"selected_tags\.csv of .* arrived as") as error:
        get(hub, models)
    assert sha256(other).hexdigest() in str(error.value)
    assert sha256(tagger_files["selected_tags.csv"]).hexdigest() in str(error.value)
    for wrong in (b"tag_id,name\n", other + other):
        hub.served["selected_tags.csv"] = wrong
        with pytest.raises(
            FetchError, match=rf"tags\.csv has {len(wrong)} bytes where {size} were expected\. It was ref"
        ):
            get(hub, models)
    assert not (models / TAGGER / "selected_tags.csv").exists()
    assert (models / TAGGER / "model.onnx").read_bytes() == tagger_files["model.onnx"]
    hub.served.clear()
    get(hub, models)
    assert (models / TAGGER / "selected_tags.csv").read_bytes() == tagger_files["selected_tags.csv"]


@pytest.mark.parametrize("name", ["model.onnx", "selected_tags.csv"])
def test_the_first_download_is_held_to_the_hashes_that_the_hub_states(hub: FakeHub, models: Path, name: str) -> None:
    data = next(iter(hub.commits[REPO].values()))[name]
    hub.served[name] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(FetchError, match=f"{name} .* arrived as"):
        get(hub, models)
    assert not (models / LOCK_FILE).exists() and not (models / TAGGER).exists()


@pytest.mark.parametrize("update", [False, True])
def test_a_changed_file_is_named_and_left_alone(hub: FakeHub, models: Path, update: bool) -> None:
    get(hub, models)
    path = models / TAGGER / "selected_tags.csv"
    good = path.read_bytes()
    for changed in (good.replace(b"long", b"LONG"), good + b"9,mine,0,1\n"):
        path.write_bytes(changed)
        with pytest.raises(FetchError) as error:
            get(hub, models, update=update)
        text = str(error.value)
        assert str(path) in text and "Delete it" in text and hub.asked == []
        if len(changed) == len(good):
            assert sha256(changed).hexdigest() in text and sha256(good).hexdigest() in text
        assert problems(models, models.parent / "memos") == [text]
        assert path.read_bytes() == changed


def test_update_moves_to_the_newest_revision(hub: FakeHub, models: Path, tagger_files: dict[str, bytes]) -> None:
    get(hub, models)
    before = lock_of(models)
    assert "is the newest" in get(hub, models, update=True)
    assert hub.gets() == []
    revision = hub.commit(REPO, {**tagger_files, "selected_tags.csv": tagger_files["selected_tags.csv"] + b"\n"})
    get(hub, models, update=True)
    assert hub.gets() == ["selected_tags.csv"]
    after = lock_of(models)
    assert (after["revision"], after["files"]["model.onnx"]) == (revision, before["files"]["model.onnx"])  # type: ignore[index]
    assert after["files"]["selected_tags.csv"] != before["files"]["selected_tags.csv"]  # type: ignore[index]
    assert (models / TAGGER / "selected_tags.csv").read_bytes().endswith(b"\n\n")


def test_a_failed_update_leaves_the_old_files_and_the_old_lock(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes]
) -> None:
    get(hub, models)
    before = lock_of(models)
    new = {"model.onnx": tagger_files["model.onnx"] + b" ", "selected_tags.csv": b"PK\x03\x04"}
    hub.commit(REPO, new)
    with pytest.raises(FetchError, match=r"selected_tags\.csv of .* is a pickle checkpoint"):
        get(hub, models, update=True)
    assert lock_of(models) == before
    assert {name: (models / TAGGER / name).read_bytes() for name in tagger_files} == tagger_files
    assert "complete and verified" in get(hub, models)


def test_what_arrived_whole_is_not_downloaded_again(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    true_download, calls = hubs.download, []

    def ending(repo: str, revision: str, name: str, *others: object) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        true_download(repo, revision, name, *others)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hubs, "download", ending)
        get(hub, models)
    assert not (models / TAGGER).exists() and not (models / LOCK_FILE).exists()
    get(hub, models)
    assert hub.gets() == [calls[1]]
    assert {name: (models / TAGGER / name).read_bytes() for name in tagger_files} == tagger_files


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_off_goes_on_where_it_was(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    """In the same run; a server that ignores ranges sends the file anew, and it comes out right as well."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 8)
    size = len(tagger_files["model.onnx"])
    hub.ranges = ranges
    hub.broken_after = size // 2
    hub.breaks = 1
    get(hub, models)
    assert hub.sent["model.onnx"] in range(size, size + 8) if ranges else hub.sent["model.onnx"] == size + size // 2
    assert (models / TAGGER / "model.onnx").read_bytes() == tagger_files["model.onnx"]


def test_the_next_run_goes_on_with_half_a_file(hub: FakeHub, models: Path, tagger_files: dict[str, bytes]) -> None:
    data = tagger_files["model.onnx"]
    part = models / fetching.STAGING / TAGGER / "model.onnx.part"
    for arrived, expected in ((data[:100], len(data) - 100), (data, 0), (data + b"too long", len(data))):
        shutil.rmtree(models, ignore_errors=True)
        part.parent.mkdir(parents=True)
        part.write_bytes(arrived)
        hub.sent.clear()
        get(hub, models)
        assert hub.sent.get("model.onnx", 0) == expected
        assert (models / TAGGER / "model.onnx").read_bytes() == data


def test_half_a_file_of_another_content_is_noticed(hub: FakeHub, models: Path, tagger_files: dict[str, bytes]) -> None:
    part = models / fetching.STAGING / TAGGER / "model.onnx.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 50)
    with pytest.raises(FetchError, match=r"model\.onnx .* arrived as .*Run this again"):
        get(hub, models)
    get(hub, models)
    assert (models / TAGGER / "model.onnx").read_bytes() == tagger_files["model.onnx"]


def test_a_download_that_never_comes_through_is_one_sentence_and_can_be_run_again(hub: FakeHub, models: Path) -> None:
    hub.broken_after, hub.breaks = 0, 99
    with pytest.raises(FetchError, match=r"cannot be reached .*what has arrived so far is kept"):
        get(hub, models)
    assert not (models / TAGGER).exists()
    hub.broken_after = None
    get(hub, models)
    assert problems(models, models.parent / "memos") == []


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_an_interruption_while_files_are_put_into_place_is_finished_by_the_next_run(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """The process ends before the first file is moved, between the two, before the lock is written, and after."""
    get(hub, models)
    new = {name: data + b"\n" for name, data in tagger_files.items()}
    revision = hub.commit(REPO, new)
    steps = []

    def ending(step: object) -> object:
        def work(*arguments: object) -> None:
            if len(steps) == moved:
                raise KeyboardInterrupt
            steps.append(step)
            step(*arguments)  # type: ignore[operator]

        return work

    with monkeypatch.context() as patch:
        for name in ("_move", "write_entry"):
            patch.setattr(fetching, name, ending(getattr(fetching, name)))
        patch.setattr(shutil, "rmtree", ending(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            get(hub, models, update=True)
    get(hub, models)
    assert hub.gets() == []
    assert lock_of(models)["revision"] == revision
    assert {name: (models / TAGGER / name).read_bytes() for name in new} == new
    assert "complete and verified" in get(hub, models)
    assert files_in(models / fetching.STAGING) == {"lock"}


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04archive/data.pkl", b"version https://git-lfs"])
def test_what_is_no_onnx_file_never_reaches_the_models(hub: FakeHub, models: Path, content: bytes) -> None:
    files = next(iter(hub.commits[REPO].values()))
    hub.commit(REPO, {**files, "model.onnx": content})
    with pytest.raises(FetchError, match=r"model\.onnx of .* is (a pickle checkpoint|a Git LFS pointer)"):
        get(hub, models)
    assert not (models / TAGGER).exists() and not (models / LOCK_FILE).exists()


def clip_files(config: dict[str, object], weights: bytes = SAFETENSORS) -> dict[str, bytes]:
    text = json.dumps({"model_cfg": config}).encode()
    return {
        "open_clip_config.json": text,
        "open_clip_model.safetensors": weights,
        "open_clip_pytorch_model.bin": b"\x80\x04",
    }


def test_a_clip_must_say_that_it_has_quick_gelu(hub: FakeHub, models: Path) -> None:
    for config in ({}, {"quick_gelu": False}, {"quick_gelu": "true"}):
        hub.commit(CLIP_REPO, clip_files(config))
        with pytest.raises(FetchError, match=r"does not say `quick_gelu: true`"):
            get(hub, models, CLIP)
        assert "open_clip_model.safetensors" not in hub.gets()  # said before the large file is downloaded
        assert not (models / CLIP).exists()
    hub.commit(CLIP_REPO, clip_files({"quick_gelu": True}))
    get(hub, models, CLIP)
    assert files_in(models / CLIP) == {"open_clip_config.json", "open_clip_model.safetensors"}


def test_pickled_weights_in_a_safetensors_name_are_refused(hub: FakeHub, models: Path) -> None:
    hub.commit(CLIP_REPO, clip_files({"quick_gelu": True}, pickle.dumps([0] * 20)))
    with pytest.raises(FetchError, match=r"open_clip_model\.safetensors of .* is a pickle checkpoint"):
        get(hub, models, CLIP)
    assert not (models / CLIP).exists()


def test_a_base_is_fetched_with_its_folders_and_without_pickles(hub: FakeHub, models: Path) -> None:
    source = known_models()["sd15/base"]
    needed = {name: SAFETENSORS if name.endswith(".safetensors") else b"{}" for name in source.files}
    others = dict.fromkeys(("unet/diffusion_pytorch_model.bin", "v1-5-pruned.ckpt"), b"\x80\x04")
    hub.commit(source.repo, {**needed, **others, "unet/diffusion_pytorch_model.fp16.safetensors": SAFETENSORS})
    get(hub, models, "sd15/base")
    assert files_in(models / "sd15" / "base") == set(source.files)


def test_any_other_tagger_is_owner_and_repository(hub: FakeHub, models: Path, tagger_files: dict[str, bytes]) -> None:
    first = hub.commit("somebody/my-tagger", tagger_files)
    second = hub.commit("somebody/my-tagger", {**tagger_files, "model.onnx": tagger_files["model.onnx"] + b"\n"})
    get(hub, models, f"somebody/my-tagger@{first}")
    assert lock_of(models, "my-tagger")["revision"] == first
    assert wd14.open_tagger(models / "my-tagger", "cpu").size == 40
    with pytest.raises(FetchError, match=rf"locked at {first}.*--update somebody/my-tagger@{second}"):
        get(hub, models, f"somebody/my-tagger@{second}")
    assert "complete and verified" in get(hub, models, "somebody/my-tagger")
    get(hub, models, f"somebody/my-tagger@{second}", update=True)
    assert lock_of(models, "my-tagger")["revision"] == second
    with pytest.raises(FetchError, match=r"my-tagger is locked to somebody/my-tagger .*not to another/my-tagger"):
        get(hub, models, "another/my-tagger")


def test_entries_of_other_models_stay(hub: FakeHub, models: Path, tagger_files: dict[str, bytes]) -> None:
    hub.commit("somebody/my-tagger", tagger_files)
    get(hub, models)
    before = lock_of(models)
    get(hub, models, "somebody/my-tagger")
    assert lock_of(models) == before


def test_files_that_a_person_put_there_are_adopted_or_left_alone(
    hub: FakeHub, models: Path, tagger_files: dict[str, bytes]
) -> None:
    (models / TAGGER).mkdir(parents=True)
    for name, data in tagger_files.items():
        (models / TAGGER / name).write_bytes(data)
    get(hub, models)
    assert hub.gets() == []
    assert set(lock_of(models)["files"]) == set(tagger_files)  # type: ignore[arg-type]
    (models / LOCK_FILE).unlink()
    (models / TAGGER / "model.onnx").write_bytes(b"\x08mine")
    with pytest.raises(FetchError, match=r"model\.onnx is there already and is not the file of"):
        get(hub, models)
    assert (models / TAGGER / "model.onnx").read_bytes() == b"\x08mine"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "check the name, or set HF_TOKEN|check HF_TOKEN"),
        (403, "check HF_TOKEN"),
        (500, "answered 500.*try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, models: Path, status: int, sentence: str) -> None:
    hub.status = status
    with pytest.raises(FetchError, match=sentence) as error:
        get(hub, models)
    assert "\n" not in str(error.value)
    hub.status = None
    get(hub, models)
    hub.status = status
    (models / TAGGER / "selected_tags.csv").unlink()
    with pytest.raises(FetchError, match=sentence) as error:
        get(hub, models)
    assert "\n" not in str(error.value)


def test_no_repository_no_revision_no_file(hub: FakeHub, models: Path) -> None:
    with pytest.raises(FetchError, match=r"has no nobody/nothing, or does not show it: check the name"):
        get(hub, models, "nobody/nothing")
    with pytest.raises(FetchError, match=r"has no revision v9"):
        get(hub, models, f"{REPO}@v9")
    hub.commit("somebody/else", {"model.onnx": b"\x08"})
    with pytest.raises(FetchError, match=r"somebody/else .* has no selected_tags\.csv: it is not a tagger"):
        get(hub, models, "somebody/else")


def test_without_a_connection_the_address_is_named(hub: FakeHub, models: Path) -> None:
    hub.endpoint = "http://127.0.0.1:9"
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9 cannot be reached .*HF_ENDPOINT"):
        get(hub, models)


def test_offline_is_said(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
            get(hub, models)
    get(hub, models)
    (models / TAGGER / "model.onnx").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
        get(hub, models)


def test_a_full_disk_is_said_before_the_download_and_in_it(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(models.parent)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        with pytest.raises(FetchError, match=r"needs up to .* and its disk has 100 bytes free\. Make room there"):
            get(hub, models)
    assert hub.gets() == []

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sticker_pipeline.models.arriving._go_on", full)
    with pytest.raises(FetchError, match=r"its disk is full\. .* What has arrived so far is kept\."):
        get(hub, models)


def test_two_at_once_do_not_meet(hub: FakeHub, models: Path) -> None:
    with fetching._alone(models), pytest.raises(FetchError, match="Another fetch-models is at work"):
        get(hub, models)
    get(hub, models)


def test_a_lock_file_that_would_lead_elsewhere_or_is_none_is_refused(hub: FakeHub, models: Path) -> None:
    get(hub, models)
    lock = json.loads((models / LOCK_FILE).read_text())
    files = lock[TAGGER]["files"]
    for bad in (
        {"../x": lock[TAGGER]},
        {TAGGER: {**lock[TAGGER], "files": {"../../x": files["model.onnx"]}}},
        {TAGGER: {**lock[TAGGER], "revision": "main"}},
        {TAGGER: {**lock[TAGGER], "files": {"model.onnx": {"bytes": 1, "sha256": "0"}}}},
        {TAGGER: {"repo": "a/b"}},
        {TAGGER: 1},
        [],
    ):
        (models / LOCK_FILE).write_text(json.dumps(bad))
        with pytest.raises(FetchError, match=rf"{LOCK_FILE} is not a lock file"):
            get(hub, models)
        assert hub.asked == []
        (said,) = problems(models, models.parent / "memos")
        assert "is not a lock file" in said


def test_the_command_fetches_lists_and_explains(hub: FakeHub, models: Path, tmp_path: Path) -> None:
    """In a process of its own, as HF_ENDPOINT is read when the client is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "STICKER_MODELS": str(models),
        "STICKER_ARTIFACTS": str(tmp_path / "artifacts"),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
    }

    def run(*arguments: str) -> tuple[int, str]:
        command = [
            sys.executable,
            "-c",
            "from sticker_pipeline.cli.commands import main; main()",
            "fetch-models",
            *arguments,
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    code, said = run("nobody/nothing", TAGGER)
    assert code == 1 and "has no nobody/nothing" in said and f"is in {models / TAGGER}" in said
    assert problems(models, tmp_path / "memos") == []
    code, said = run("--profile", "sd15")
    assert code == 1 and f"{TAGGER}: complete and verified" in said and "has no stable-diffusion-v1-5/" in said
    code, said = run()
    assert code == 0 and all(name in said for name in known_models())
    assert (
        next(line for line in said.splitlines() if line.startswith(TAGGER))
        .rstrip()
        .endswith(next(iter(hub.commits[REPO]))[:12])
    )

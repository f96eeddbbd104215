"""Requests to the desk: pages, JSON, images, tokens, and paths that lead nowhere."""

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from sticker_pipeline.desk.app import MOST_BYTES, POLICY, TOKEN, desk_app
from sticker_pipeline.desk.session import Session
from sticker_pipeline_tests.desk.example import NAME


@pytest.fixture
def client(desk: Session) -> TestClient:
    return TestClient(desk_app(desk), raise_server_exceptions=False)


@pytest.fixture
def token(client: TestClient) -> dict[str, str]:
    found = re.search(r'data-token="([\w-]+)"', client.get(f"/c/{NAME}").text)
    assert found
    return {TOKEN: found[1]}


def post(client: TestClient, path: str, body: dict, headers: dict[str, str]):
    return client.post(f"/c/{NAME}/api/{path}", json=body, headers=headers)


def test_pages_and_files_have_the_policy(client: TestClient) -> None:
    for path in ("/", f"/c/{NAME}", "/static/desk.js", "/static/desk.css", "/nowhere", f"/c/{NAME}/api/frames"):
        assert client.get(path).headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    page = client.get(f"/c/{NAME}").text
    assert not re.search(r"<script(?![^>]*(src=|application/json))|\son\w+=|style=", page)


def test_the_first_images_are_in_the_page(client: TestClient) -> None:
    def first() -> dict | None:
        return json.loads(re.search(r'id="first">(.*?)</script>', client.get(f"/c/{NAME}").text, re.S)[1])

    assert first() is None  # they are not in memory yet
    assert client.get(f"/c/{NAME}/api/frames").json()["total"] == 6
    assert (found := first()) is not None
    assert found == client.get(f"/c/{NAME}/api/frames").json() == {**found, "total": 6, "all": 6, "undo": 0}


def test_a_character_that_cannot_be_loaded_is_a_sentence(client: TestClient, root: Path) -> None:
    (root / "characters" / NAME / "character.yaml").write_text("triger: <b>x</b>")
    for path in (f"/c/{NAME}", "/c/nobody", "/c/..x"):
        page = client.get(path, headers={"accept": "text/html"})
        assert page.status_code == 404
        assert "This page cannot be shown" in page.text
        assert "<b>" not in page.text
    assert "triger" in client.get(f"/c/{NAME}/api/overview").json()["error"]


def test_images(client: TestClient) -> None:
    rows = client.get(f"/c/{NAME}/api/frames").json()["rows"]
    for row in rows:
        if not row["frame_id"]:
            continue
        small, full = (client.get(f"/c/{NAME}/frame/{row['frame_id']}.{kind}") for kind in ("webp", "png"))
        assert Image.open(io.BytesIO(small.content)).format == "WEBP"
        assert Image.open(io.BytesIO(full.content)).size == (row["width"], row["height"])
    assert client.get(f"/c/{NAME}/cover.webp").status_code == 200


@pytest.mark.parametrize("path", ["captions", "settings", "undo", "update", "cancel", "roll-back"])
def test_every_change_needs_the_token(client: TestClient, desk: Session, path: str, root: Path) -> None:
    before = {file: file.read_bytes() for file in (root / "characters").rglob("*") if file.is_file()}
    for headers in ({}, {TOKEN: "x"}, {TOKEN: "x" * 43}):
        assert post(client, path, {}, headers).status_code == 403
    assert client.get(f"/c/{NAME}/api/{path}").status_code == 405
    assert desk.runs.asked == []
    assert before == {file: file.read_bytes() for file in (root / "characters").rglob("*") if file.is_file()}


def test_a_desk_for_viewing_only_changes_nothing(desk: Session) -> None:
    client = TestClient(desk_app(desk, read_only=True))
    assert 'data-token=""' in client.get(f"/c/{NAME}").text
    assert post(client, "update", {}, {TOKEN: ""}).status_code == 403


def test_runs_are_asked(client: TestClient, desk: Session, token: dict[str, str]) -> None:
    assert post(client, "update", {}, token).status_code == 200
    assert post(client, "cancel", {}, token).json() is True
    assert post(client, "roll-back", {"number": 2, "reason": "blurry"}, token).status_code == 200
    assert desk.runs.asked == [("update", NAME), ("cancel", NAME), ("roll back", NAME, 2, "blurry")]


def test_captions_are_previewed_written_and_undone(client: TestClient, token: dict[str, str], root: Path) -> None:
    change = {"filter": {"tags": "smile"}, "do": "replace", "text": "smile", "by": "grin"}
    shown = post(client, "captions", {**change, "preview": True}, token).json()
    assert shown["files"] == 2
    assert shown["examples"][1] == {"file": "stickers/happy.txt", "before": "", "after": "grin, hat\n"}
    assert not (root / "characters/fox/stickers/happy.txt").exists()
    assert post(client, "captions", {**change, "seen": shown["digest"]}, token).json()["made"] == 2
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "grin, hat\n"
    assert post(client, "captions", {**change, "seen": shown["digest"]}, token).status_code == 409
    assert client.get(f"/c/{NAME}/api/frames?tags=grin").json()["total"] == 3
    assert post(client, "undo", {}, token).json()["made"] == 2
    assert not (root / "characters/fox/stickers/happy.txt").exists()


def test_all_but_some_can_be_selected(client: TestClient, token: dict[str, str]) -> None:
    rows = client.get(f"/c/{NAME}/api/frames?tags=smile").json()["rows"]
    without = [row["frame_id"] for row in rows if row["path"].startswith("gifs")]
    change = {"filter": {"tags": "smile"}, "without": without, "do": "add", "text": "x"}
    shown = post(client, "captions", {**change, "preview": True}, token).json()
    assert [one["file"] for one in shown["examples"]] == ["stickers/happy.txt"]


def test_the_files_of_a_filter(client: TestClient) -> None:
    assert client.get(f"/c/{NAME}/api/paths?tags=smile").json() == ["gifs/wave.gif", "stickers/happy.png"]
    ids = client.get(f"/c/{NAME}/api/ids?tags=smile&start=1&count=2").json()
    rows = client.get(f"/c/{NAME}/api/frames?tags=smile").json()["rows"]
    assert ids == [[row["frame_id"], row["path"]] for row in rows[1:3]]


def test_a_caption_that_changed_meanwhile_is_a_conflict(client: TestClient, token: dict[str, str], root: Path) -> None:
    file = client.get(f"/c/{NAME}/api/file", params={"path": "stickers/happy.png"}).json()
    assert (file["caption"], file["written"]) == ("smile, hat", False)
    (root / "characters/fox/stickers/happy.txt").write_text("by hand")
    body = {
        "path": "stickers/happy.png",
        "do": "set",
        "text": "mine",
        "expected": {"stickers/happy.png": file["caption"]},
    }
    answer = post(client, "captions", body, token)
    assert (answer.status_code, answer.json()["error"]) == (
        409,
        "The caption of stickers/happy.png was changed meanwhile. It is now: by hand",
    )
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "by hand"


def test_settings_are_shown_before_they_are_written(client: TestClient, token: dict[str, str], root: Path) -> None:
    body = {"changes": [{"do": "add", "key": "media.exclude", "value": ["gifs/wave.gif"]}]}
    shown = post(client, "settings", body, token).json()["difference"]
    assert "+media:" in shown
    assert post(client, "settings", {**body, "seen": "something else"}, token).status_code == 409
    assert post(client, "settings", {**body, "seen": "\n".join(shown)}, token).json()["made"] == 1
    assert (root / "characters/fox/character.yaml").read_text().endswith("media:\n  exclude: [gifs/wave.gif]\n")
    assert client.get(f"/c/{NAME}/api/overview").json()["settings"]["media.exclude"] == ["gifs/wave.gif"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":', b"\xff", b'"x"'])
def test_a_bad_body_is_a_sentence(client: TestClient, token: dict[str, str], body: bytes) -> None:
    answer = client.post(f"/c/{NAME}/api/captions", content=body, headers=token)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The request: ")


@pytest.mark.parametrize(
    "body",
    [{"do": "x"}, {"do": "add"}, {"do": "replace", "text": "a,b", "by": "c"},
     {"do": "set", "text": " "}, {"filter": []}, {"frames": 3}, {"filter": {"state": "x"}},
     {"do": "add", "text": "x", "expected": 3}, {"do": "add", "text": "x", "filter": {"order": "x"}}],
)  # fmt: skip
def test_bad_values_are_a_sentence(client: TestClient, token: dict[str, str], body: dict) -> None:
    answer = post(client, "captions", body, token)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_a_large_request_is_refused(client: TestClient, token: dict[str, str]) -> None:
    assert post(client, "captions", {"text": "x" * MOST_BYTES}, token).status_code == 413


def test_names_are_text(root: Path) -> None:
    from sticker_pipeline_tests.desk.example import TAGS, make_dataset, session

    evil = 'stickers/"><img src=x onerror=alert(1)></script>.png'.replace("/script", "\u2215script")
    (root / "characters/fox/stickers/happy.png").rename(root / "characters/fox" / evil)
    (root / "characters/fox/stickers/sad.txt").write_text("</script><script>alert(1)</script>")
    make_dataset(root, tags={**TAGS, evil: ["<b>x</b>"]})
    page = TestClient(desk_app(session(root))).get(f"/c/{NAME}").text
    assert page.count("<script") == 2
    assert "<img src=x" not in page


PARTS = ["..", ".", "", "%2e%2e", "%2f", "etc", "passwd", "files", "lora", "samples", "characters", NAME, "~", "C:",
         "character.yaml", "artifact.json", "%00", "\\..", "index.parquet"]  # fmt: skip
traversal = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            "",
            "c/",
            f"c/{NAME}/frame/",
            f"c/{NAME}/image/lora/",
            f"c/{NAME}/image/samples/",
            f"c/{NAME}/image/",
            "static/",
        ]
    ),
    traversal,
)
def test_no_path_reads_a_file_that_is_not_an_image_of_the_character(client: TestClient, begin: str, path: str) -> None:
    address = f"/{begin}{path}"
    if address.startswith("//"):  # the test client takes it as a host
        address = f"/./{address}"
    answer = client.get(address)
    assert answer.status_code < 500
    if answer.status_code == 200:
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in ("text/html", "image/webp", "image/png")
        assert b"trigger: skv_fox" not in answer.content
        assert b"root:" not in answer.content


def test_a_file_and_a_release_are_traced_both_ways(tmp_path: Path) -> None:
    from sticker_pipeline_tests.benchmark.retrained import NAME as LUMA
    from sticker_pipeline_tests.benchmark.retrained import Retrained
    from sticker_pipeline_tests.desk.example import session

    deployment = Retrained.begin(tmp_path)
    deployment.release()
    (path, *_) = sorted(file.relative_to(deployment.folder).as_posix() for file in deployment.folder.glob("*/*.png"))
    client = TestClient(desk_app(session(tmp_path)))
    uses = client.get(f"/c/{LUMA}/api/uses", params={"path": path}).json()
    assert [(use["character"], use["number"], use["path"]) for use in uses] == [(LUMA, 1, path)]
    files = client.get(f"/c/{LUMA}/api/sources?number=1").json()["files"]
    assert path in [file["path"] for file in files]
    assert sum(file["weight"] for file in files) == pytest.approx(1)
    assert client.get(f"/c/{LUMA}/api/sources?number=9").status_code == 422
    assert client.get(f"/c/{LUMA}/api/uses?path=../x").status_code == 404

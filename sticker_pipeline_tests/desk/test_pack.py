"""The pack on the desk: what is shown of it, its page, and files that are not served."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from sticker_pipeline.desk.app import POLICY, desk_app
from sticker_pipeline.desk.pack import PAGE_POLICY
from sticker_pipeline_tests.desk.example import NAME, SETTINGS, add_character, make_dataset, make_pack, session


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    add_character(root)
    make_dataset(root)
    make_pack(root)
    return root


@pytest.fixture
def client(packed: Path) -> TestClient:
    return TestClient(desk_app(session(packed)), raise_server_exceptions=False)


def test_the_pack_is_shown_in_order_with_words_and_images(client: TestClient) -> None:
    found = client.get(f"/c/{NAME}/api/pack").json()
    assert [(one["slot"], one["origin"], one["emoji"], one["text"]) for one in found["stickers"]] == [
        ("hello", "own", ["👋"], "waving hello"),
        ("thanks", "own", ["🙏", "💖"], "saying thank you"),
    ]
    for one in (*found["stickers"], *found["rejected"]):
        small, whole = (client.get(f"/c/{NAME}/image/sticker_pack/{one['image']}{full}") for full in ("", "?full"))
        assert Image.open(io.BytesIO(small.content)).size == (192, 192)
        assert Image.open(io.BytesIO(whole.content)).size == (200, 200)
    moving = client.get(f"/c/{NAME}/image/sticker_pack/{found['stickers'][1]['image']}?full")
    assert Image.open(io.BytesIO(moving.content)).n_frames == 3


def test_rejected_candidates_gaps_sets_and_checks_are_in_words(client: TestClient) -> None:
    found = client.get(f"/c/{NAME}/api/pack").json()
    (rejected,) = found["rejected"]
    assert rejected["slot"] == "hello" and rejected["reason"] == "it shows the same as hello.png"
    gaps = {gap["slot"]: gap["why"] for gap in found["gaps"]}
    assert gaps["sorry"] == "no candidate" and "hello" not in gaps
    assert {(one["title"], one["kind"], one["stickers"]) for one in found["sets"]} >= {("Slack", "emoji", 2)}
    assert all(one["bytes"] > 0 for one in found["sets"])
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["fits_platforms"]["passed"] and checks["fits_platforms"]["error"]
    assert not checks["no_gaps"]["passed"] and checks["no_gaps"]["summary"].startswith("no ")
    assert checks["no_gaps"]["evidence"]["columns"] == ["slot", "why"]
    assert checks["no_gaps"]["evidence"]["all"] == len(gaps)


def test_without_a_pack_the_page_says_how_to_get_one(root: Path) -> None:
    client = TestClient(desk_app(session(root)))
    found = client.get(f"/c/{NAME}/api/pack").json()
    assert list(found) == ["missing"]
    assert "“pack:”" in found["missing"] and f"sticker-pipeline pack {NAME}" in found["missing"]
    (root / "characters" / NAME / "character.yaml").write_text(SETTINGS + "pack: {}\n")
    assert client.get(f"/c/{NAME}/api/pack").json()["missing"].endswith("“Bring up to date” makes it.")
    assert client.get(f"/c/{NAME}/pack/pack.html").status_code == 404


def test_its_page_has_a_policy_of_its_own_and_no_token(client: TestClient, packed: Path) -> None:
    answer = client.get(f"/c/{NAME}/pack/pack.html")
    assert answer.headers.get_list("content-security-policy") == [PAGE_POLICY]
    assert answer.content == (packed / "artifacts" / NAME / "sticker_pack" / "pack.html").read_bytes()
    assert b"token" not in answer.content
    for kind in ("connect-src", "form-action", "frame-src", "worker-src", "frame-ancestors"):
        assert f"{kind} 'none'" in PAGE_POLICY
    for allowed in ("allow-forms", "allow-popups", "allow-top-navigation"):
        assert allowed not in PAGE_POLICY
    image = client.get(f"/c/{NAME}/pack/page/0000.webp")
    assert Image.open(io.BytesIO(image.content)).format == "WEBP"
    assert image.headers.get_list("content-security-policy") == [POLICY]


@pytest.mark.parametrize(
    "file",
    ["", "choice.parquet", "artifact.json", "verdicts.json", "sheet.png", "page/", "page/9999.webp",
     "masters/hello.png", "page/../choice.parquet", "page/../masters/hello.png",
     "..%2f..%2f..%2fcharacters%2ffox%2fcharacter.yaml",
     "page/%2e%2e/verdicts.json", "/etc/passwd", "pack.html/", "PACK.html", "page/0000.webp%00.png"],
)  # fmt: skip
def test_nothing_but_the_page_and_its_images_is_served(client: TestClient, file: str) -> None:
    assert client.get(f"/c/{NAME}/pack/{file}").status_code == 404


@pytest.mark.parametrize("file", ["pack.html", "choice.parquet", "verdicts.json", "slack/INSTRUCTIONS.md"])
def test_only_images_are_served_as_images(client: TestClient, file: str) -> None:
    assert client.get(f"/c/{NAME}/image/sticker_pack/{file}?full").status_code == 404


def test_a_page_that_was_changed_is_not_served(root: Path) -> None:
    page = make_pack(root) / "pack.html"
    client = TestClient(desk_app(session(root)), raise_server_exceptions=False)
    assert client.get(f"/c/{NAME}/pack/pack.html").status_code == 200
    page.write_bytes(page.read_bytes() + b"<script>alert(1)</script>")
    answer = client.get(f"/c/{NAME}/pack/pack.html")
    assert answer.status_code == 422
    assert "it is not what artifact.json says" in json.loads(answer.content)["error"]

"""Servers that lie, stall, flood and redirect: one sentence each, and no file left in place."""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.known_models import FetchError, Source
from sticker_pipeline.models import arriving, hub, web
from sticker_pipeline.models.single import fetch_single
from sticker_pipeline_tests.models.hostile_server import Answer, bytes_of, hostile

DATA = bytes(range(256)) * 400
LOGIN = web.Login("https://civitai.com", "CIVITAI_TOKEN", "secret-5")
COMMIT = "0123456789" * 4
BEGIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
Fetch = Callable[[str, Path], None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "PATIENCE", 0.3)
    monkeypatch.setattr(arriving, "ATTEMPTS", 2)
    monkeypatch.delenv("CIVITAI_TOKEN", raising=False)


def by_web(url: str, target: Path) -> None:
    web.download(f"{url}/x", len(DATA), target, LOGIN, lambda line: None)


def by_hub(url: str, target: Path) -> None:
    hub.download("owner/model", COMMIT, "x", len(DATA), target, url, lambda line: None)


def slowly(to: socket.socket, data: bytes) -> None:
    for one in data:
        to.sendall(bytes([one]))
        time.sleep(0.05)


def endless(to: socket.socket, _: bytes) -> None:
    to.sendall(BEGIN + b"\r\n")
    while True:
        to.sendall(bytes(65536))


def slow_body(to: socket.socket, _: bytes) -> None:
    to.sendall(BEGIN + b"Content-Length: %d\r\n\r\n" % len(DATA))
    slowly(to, bytes(1000))


WHOLE = {"Content_Length": len(DATA)}
REFUSED = "It was refused."
ATTACKS: dict[str, tuple[Answer, str]] = {
    "endless": (endless, f"sends more than the {len(DATA)} bytes that the file should have. {REFUSED}"),
    "too small": (bytes_of(b"ab", Content_Length=2), f"has 2 bytes where {len(DATA)} were expected. {REFUSED}"),
    "too large": (bytes_of(b"ab", Content_Length=10**15), f"bytes where {len(DATA)} were expected. {REFUSED}"),
    "gzip bomb": (
        bytes_of(gzip.compress(bytes(10**8)), Content_Encoding="gzip"),
        f"sends the file compressed ('gzip'), not as it is. {REFUSED}",
    ),
    "cut off": (bytes_of(DATA[:100], **WHOLE), "cannot be reached"),
    "nothing": (lambda to, _: None, "cannot be reached"),
    "no HTTP": (lambda to, _: to.sendall(b"\x00\xff" * 500), "cannot be reached"),
    "a silent server": (lambda to, _: time.sleep(5), "no whole answer within 0.3 s"),
    "a slow head": (lambda to, _: slowly(to, BEGIN), "no whole answer within 0.3 s"),
    "a slow body": (slow_body, "bytes arrived in 0.3 s"),
}


@pytest.mark.parametrize("fetch", [by_web, by_hub])
@pytest.mark.parametrize(("answer", "words"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_file_is_one_sentence_soon(answer: Answer, words: str, fetch: Fetch, tmp_path: Path) -> None:
    began = time.monotonic()
    with hostile(answer) as url, pytest.raises(FetchError) as error:
        fetch(url, tmp_path / "file")
    assert words in str(error.value) and "\n" not in str(error.value) and str(error.value).isprintable()
    assert len(str(error.value)) < 600
    assert time.monotonic() - began < 10
    assert not (tmp_path / "file").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(DATA)


def rest(request: bytes, **headers: object) -> Answer:
    """Right for whoever asks for all of the file; for the rest, 206 with these headers, or 416 without any."""
    if b"Range:" not in request.replace(b"range:", b"Range:"):
        return bytes_of(DATA, **WHOLE)
    return bytes_of(DATA, "206 Partial Content", **headers) if headers else bytes_of(b"", "416 No", Content_Length=0)


RESUMED: dict[str, dict[str, object]] = {
    "416": {},
    "no Content-Range": {"Content_Length": len(DATA)},
    "another part": {"Content_Range": f"bytes 7-9/{len(DATA)}", "Content_Length": 3},
    "another size": {"Content_Range": "bytes 100-999999/1000000", "Content_Length": 999_900},
}


@pytest.mark.parametrize("fetch", [by_web, by_hub])
@pytest.mark.parametrize("headers", RESUMED.values(), ids=RESUMED)
def test_a_file_that_changed_meanwhile_is_downloaded_anew(
    headers: dict[str, object], fetch: Fetch, tmp_path: Path
) -> None:
    arriving.part_of(tmp_path / "file").write_bytes(b"x" * 100)
    with hostile(lambda to, request: rest(request, **headers)(to, request)) as url:
        fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("fetch", [by_web, by_hub])
def test_all_of_it_in_answer_to_the_rest_is_taken_as_all(fetch: Fetch, tmp_path: Path) -> None:
    arriving.part_of(tmp_path / "file").write_bytes(b"x" * 100)
    with hostile(bytes_of(DATA, **WHOLE)) as url:
        fetch(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


JSON_ATTACKS: dict[str, tuple[Answer, str]] = {
    "deep": (bytes_of(b"[" * 100_000), "did not answer with JSON (it is nested too deep)"),
    "huge": (bytes_of(b"[" + b"1," * 6_000_000 + b"1]"), "answers with more than 10.0 MB. It was refused."),
    "endless": (endless, "answers with more than 10.0 MB. It was refused."),
    "digits": (bytes_of(b"1" * 5000), "did not answer with JSON"),
    "slow": (slow_body, "no whole answer within 0.3 s"),
    "letters": (bytes_of(b'"\xff"'), "did not answer with JSON"),
    "empty": (bytes_of(b""), "did not answer with JSON"),
    "header lines": (lambda to, _: to.sendall(BEGIN + b"A: b\r\n" * 10**5), "cannot be reached"),
    "escapes": (lambda to, _: to.sendall(b"\x1b[31mred\r\n"), "cannot be reached (\\x1b[31mred"),
}


@pytest.mark.parametrize(("answer", "words"), JSON_ATTACKS.values(), ids=JSON_ATTACKS)
def test_a_hostile_answer_is_one_sentence(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "slow" not in request.node.callspec.id:
        monkeypatch.setattr(arriving, "PATIENCE", 20)
    with hostile(answer) as url, pytest.raises(FetchError) as error:
        web.get_json(url, LOGIN)
    assert words in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "place",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "//", "http://[::1", "https://a..b/x"),
        *("http://169.254.169.254/latest/meta-data", "http://127.0.0.1:80@evil.example/", "https://%00/", "\x00"),
        *(
            f"https://{'a' * 70}.example/",
            "http://127.0.0.1:port/",
            "https://exa mple/",
            "https://user@/",
            "?" * 60_000,
        ),
    ],
)
def test_redirects_to_nowhere_are_one_sentence(place: str) -> None:
    with hostile(bytes_of(b"", "302 Found", Location=place, Content_Length=0)) as url, pytest.raises(FetchError):
        web.get_json(url, LOGIN)


@pytest.mark.parametrize("length", ["-5", "²", "9" * 5000, "9" * 16, "1e3", "", "+5", "5, 6", "0x5"])
def test_a_length_that_is_none_is_not_believed(length: str) -> None:
    with hostile(bytes_of(b"hello", Content_Length=length)) as url, pytest.raises(FetchError, match="does not say how"):
        web.size_of(url, LOGIN)


def test_no_token_of_the_hub_goes_to_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def store(to: socket.socket, request: bytes) -> None:
        heard.append(request)
        bytes_of(DATA, **WHOLE)(to, request)

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hostile(store) as other:

        def leads_there(to: socket.socket, request: bytes) -> None:
            heard.append(request)
            bytes_of(b"", "302 Found", Location=f"{other}/blob", Content_Length=0)(to, request)

        with hostile(leads_there) as url:
            by_hub(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert [b"hf_secret" in request for request in heard] == [True, False]


INFO: dict[str, Any] = {"id": "owner/model", "sha": COMMIT, "siblings": [{"rfilename": "x", "size": 5, "blobId": "a"}]}


def sibling(**changes: Any) -> dict[str, Any]:
    return {**INFO, "siblings": [{"rfilename": "x", "size": 5, "blobId": "a", **changes}]}


HUB_ANSWERS: dict[str, Any] = {
    "a list": [],
    "no name": {"sha": COMMIT},
    "a commit that is a path": {**INFO, "sha": "../../etc"},
    "no commit": {**INFO, "sha": None},
    "files that are numbers": {**INFO, "siblings": [5]},
    "files that are a table": {**INFO, "siblings": {}},
    "a file without a name": {**INFO, "siblings": [{"size": 5}]},
    "only other names": {**INFO, "siblings": [{"rfilename": "../../x", "size": 5, "blobId": "a"}]},
    "a size in words": sibling(size="many"),
    "a size below 0": sibling(size=-5),
    "a size that is no number": sibling(size=float("inf")),
    "no size": sibling(size=None),
    "no hash": sibling(blobId=None),
    "a hash that is a number": sibling(blobId=5),
    "LFS that is text": sibling(lfs="x"),
    "LFS without a hash": sibling(lfs={"size": 5}),
    "a date in words": {**INFO, "lastModified": "yesterday"},
}


@pytest.mark.parametrize("answer", HUB_ANSWERS.values(), ids=HUB_ANSWERS)
def test_an_answer_that_is_not_the_hubs_is_one_sentence(answer: Any) -> None:
    body = json.dumps(answer).encode()
    with (
        hostile(bytes_of(body, Content_Type="application/json", Content_Length=len(body))) as url,
        pytest.raises(FetchError) as error,
    ):
        hub.look_up(Source("model", "owner/model", "tagger", ("x",)), url)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def version(**changes: Any) -> dict[str, Any]:
    file = {"name": "a.safetensors", "type": "Model", "sizeKB": 1, "hashes": {"SHA256": "0" * 64}, "downloadUrl": "x"}
    return {"baseModel": "SD 1.5", "model": {"type": "Checkpoint"}, "files": [{**file, **changes}]}


CIVITAI_ANSWERS: dict[str, Any] = {
    "a list": [],
    "a base that is a list": {**version(), "baseModel": []},
    "files that are a table": {**version(), "files": {"a": 1}},
    "thousands of files": {**version(), "files": [{"name": "\x1b[2J" * 50}] * 5000},
    "a name that is a number": version(name=5),
    "a name that is a list": version(name=["a.safetensors"]),
    "a name that leads elsewhere": version(name="../../a.safetensors"),
    "a name with NUL": version(name="a\x00.safetensors"),
    "a size beyond numbers": version(sizeKB=10**400),
    "a size that is none": version(sizeKB=float("nan")),
    "an endless size": version(sizeKB=float("inf")),
    "a size in words": version(sizeKB="many"),
    "hashes that are text": version(hashes="abc"),
    "a hash that is a number": version(hashes={"SHA256": 5}),
    "a short hash": version(hashes={"SHA256": "abc"}),
    "no hash": version(hashes={}),
    "an address of a file": version(downloadUrl="file:///etc/passwd"),
    "an address that is a table": version(downloadUrl={}),
    "an address that is none": version(downloadUrl="https://[x"),
}


@pytest.mark.parametrize("answer", CIVITAI_ANSWERS.values(), ids=CIVITAI_ANSWERS)
def test_an_answer_that_is_not_civitais_is_one_sentence(answer: Any, tmp_path: Path) -> None:
    with hostile(bytes_of(json.dumps(answer).encode())) as url, pytest.raises(FetchError) as error:
        fetch_single("civitai:5", tmp_path / "models", tmp_path, say=lambda line: None, site=url)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("text", ["civitai:1/../..", "civitai:-1", "civitai:1 2", f"civitai:{'1' * 50}", "civitai:١"])
def test_a_version_is_a_number(text: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="write civitai: and the number of the model version"):
        fetch_single(text, tmp_path, tmp_path, say=lambda line: None)


@pytest.mark.parametrize("token", ["sec\nret", "secr→t", "sec\x00ret"])
def test_a_token_that_cannot_be_sent_is_said_and_not_shown(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in token:
        monkeypatch.setattr("os.environ", {"CIVITAI_TOKEN": token})
    else:
        monkeypatch.setenv("CIVITAI_TOKEN", token)
    with pytest.raises(FetchError) as error:
        fetch_single("civitai:5", tmp_path, tmp_path, say=lambda line: None, site="http://127.0.0.1:9")
    assert str(error.value) == "CIVITAI_TOKEN holds letters that no API key has. Copy the key again."


@pytest.fixture
def served_names(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    model = len(header).to_bytes(8, "little") + header + b"x"
    sha256 = sha256_of(model).hexdigest()

    def stored(name: str) -> str:
        """The name under which a file that is called `name` is kept."""

        def answer(to: socket.socket, request: bytes) -> None:
            if b"/api/" not in request:
                headers = {"Content_Length": len(model), "Content_Disposition": "attachment; filename=../../x.sh"}
                return bytes_of(model, **headers)(to, request)
            size, url = len(model) / 1024, f"http://{request.split(b'Host: ')[1].split()[0].decode()}/file"
            entry = version(name=name, sizeKB=size, hashes={"SHA256": sha256}, downloadUrl=url)
            return bytes_of(json.dumps(entry).encode())(to, request)

        with hostile(answer) as site:
            fetch_single("civitai:5", tmp_path / "models", tmp_path, say=lambda line: None, site=site)
        (path,) = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".json", "")]
        return path.relative_to(tmp_path).as_posix()

    yield stored


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a" * 300 + ".safetensors", "a" * 100 + ".safetensors"),
        ("CON.safetensors", "modelCON.safetensors"),
        ("nul.v1.safetensors", "modelnul.v1.safetensors"),
        ("...safetensors", "model.safetensors"),
        ("-rf $(x) 猫.safetensors", "rf___x___.safetensors"),
    ],
)
def test_names_are_made_harmless(name: str, kept: str, served_names: Callable[[str], str]) -> None:
    assert served_names(name) == f"models/sd15/base/{kept}"

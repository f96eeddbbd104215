"""Single-file base models: from a local server with Civitai's API, from an address, and from a path."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.known_models import FetchError, civitai_places, known_models
from sticker_pipeline.core.profile import PROFILES, load_profile
from sticker_pipeline.models.fetch import STAGING
from sticker_pipeline.models.lock import LOCK_FILE, problems
from sticker_pipeline.models.single import fetch_single
from sticker_pipeline_tests.diffusion.base_headers import checkpoint, write_header
from sticker_pipeline_tests.models.fake_civitai import FakeCivitai, running

HEADER = json.dumps({"w": {"dtype": "U8", "shape": [200_000], "data_offsets": [0, 200_000]}}).encode()
MODEL = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(200)) * 1000
OTHER = MODEL[:-1] + b"\x00"
SHA = sha256(MODEL).hexdigest()
NAME, PLACE, ID = "my_Model__v1_.safetensors", "sd15/base", "civitai:128713"


@pytest.fixture
def civitai(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCivitai]:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
    monkeypatch.delenv("CIVITAI_TOKEN", raising=False)
    with running(FakeCivitai()) as server:
        server.add("128713", MODEL)
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def get(civitai: FakeCivitai, models: Path, text: str = ID, **options: Any) -> str:
    """Fetch, and return what was said."""
    said: list[str] = []
    civitai.asked.clear()
    civitai.sent = 0
    fetch_single(text, models, models.parent / "memos", say=said.append, site=civitai.site, **options)
    return "\n".join(said)


def refused(civitai: FakeCivitai, models: Path, text: str = ID, **options: Any) -> str:
    """The sentence with which a fetch is refused, after which nothing is in place, and nothing is locked."""
    with pytest.raises(FetchError) as error:
        get(civitai, models, text, **options)
    assert "\n" not in str(error.value)
    assert not list(models.glob("*/base*")) and not (models / LOCK_FILE).exists()
    return str(error.value)


def part(models: Path) -> Path:
    return models / STAGING / "sd15+base" / f"{NAME}.part"


def test_the_primary_safetensors_file_is_verified_locked_and_used(civitai: FakeCivitai, models: Path) -> None:
    said = get(civitai, models)
    path = models / PLACE / NAME
    assert path.read_bytes() == MODEL
    assert json.loads((models / LOCK_FILE).read_text()) == {
        PLACE: {"repo": ID, "revision": SHA, "files": {NAME: {"bytes": len(MODEL), "sha256": SHA}}}
    }
    assert f"{PLACE}: {ID} at {SHA[:12]} is in {models / PLACE}, and locked" in said
    assert load_profile("sd15", models).base == path
    assert problems(models, models.parent / "memos") == []


def test_a_second_one_needs_no_network(civitai: FakeCivitai, models: Path) -> None:
    get(civitai, models)
    assert "complete and verified" in get(civitai, models)
    assert civitai.asked == []


def test_another_machine_with_the_lock_file_gets_the_same_file(
    civitai: FakeCivitai, models: Path, tmp_path: Path
) -> None:
    get(civitai, models)
    entry = civitai.add("128713", OTHER)  # the primary file is another one now
    locked = {**entry, "hashes": {"SHA256": SHA.upper()}, "primary": False}
    civitai.versions["128713"]["files"].append(locked)
    civitai.data["128713"] = MODEL
    (tmp_path / "there" / "models").mkdir(parents=True)
    shutil.copy(models / LOCK_FILE, tmp_path / "there" / "models")
    get(civitai, tmp_path / "there" / "models")
    assert (tmp_path / "there" / "models" / PLACE / NAME).read_bytes() == MODEL
    civitai.versions["128713"]["files"].remove(locked)
    (models / PLACE / NAME).unlink()
    with pytest.raises(FetchError, match=rf"has no file with SHA-256 {SHA} \(any more\)"):
        get(civitai, models)


def test_a_download_goes_on_where_it_broke(civitai: FakeCivitai, models: Path) -> None:
    civitai.broken_after, civitai.breaks = 50_000, 3
    get(civitai, models)
    assert (models / PLACE / NAME).read_bytes() == MODEL
    assert civitai.sent == 50_000 + len(MODEL)  # the size was asked for first; nothing was sent twice
    assert civitai.asked.count("store /128713") == 1 + 3


def test_a_download_goes_on_in_another_process(civitai: FakeCivitai, models: Path) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(MODEL[:150_000])
    get(civitai, models)
    assert (models / PLACE / NAME).read_bytes() == MODEL
    assert civitai.sent == len(MODEL) + len(MODEL) - 150_000


def test_a_server_without_ranges_sends_all_of_it_again(civitai: FakeCivitai, models: Path) -> None:
    civitai.ranges = False
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(b"x" * 1000)
    get(civitai, models)
    assert (models / PLACE / NAME).read_bytes() == MODEL


def test_what_keeps_breaking_is_given_up_and_kept(civitai: FakeCivitai, models: Path) -> None:
    civitai.add("128713", MODEL)
    civitai.broken_after, civitai.breaks = 0, 99
    said = refused(civitai, models)
    assert said.startswith(f"{civitai.site} cannot be reached (") and said.endswith(
        "Check the connection, and run this again; what has arrived so far is kept."
    )
    civitai.broken_after, civitai.breaks = 1000, 2
    get(civitai, models)


def test_another_file_than_the_stated_one_is_thrown_away(civitai: FakeCivitai, models: Path) -> None:
    civitai.data["128713"] = OTHER
    said = refused(civitai, models)
    assert f"{NAME} of {ID} at {SHA} arrived as {len(MODEL)} bytes, hash {sha256(OTHER).hexdigest()}" in said
    assert not part(models).exists() and not part(models).with_suffix("").exists()
    civitai.data["128713"] = MODEL
    get(civitai, models)


def test_a_size_that_is_not_the_stated_one_is_refused_before_the_download(civitai: FakeCivitai, models: Path) -> None:
    civitai.data["128713"] = MODEL + bytes(5000)
    assert refused(civitai, models) == (
        f"{ID}: my Model (v1).safetensors should have {len(MODEL)} bytes, and has {len(MODEL) + 5000} where it is "
        "downloaded from. It was refused."
    )
    civitai.data["128713"] = MODEL
    civitai.versions["128713"]["files"][1]["sizeKB"] = round(len(MODEL) / 1024, 2)  # as the site's own examples have it
    get(civitai, models)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"files": []}, f"{ID} has no .safetensors file, only none at all. Choose another."),
        (
            {"files": [{"name": "a.ckpt", "type": "Model"}]},
            f"{ID} has no .safetensors file, only a.ckpt. Choose another.",
        ),
        (
            {"model": {"type": "LORA"}},
            f"{ID} is a LORA, not a Checkpoint: choose the version of a base model.",
        ),
        ({"baseModel": "Flux.1 D"}, f"{ID}: say which base model it shall be: --as sd15/base, or --as sdxl/base."),
        (
            {"files": [{"name": "vae.safetensors", "type": "VAE"}]},
            f"{ID} has no .safetensors file, only vae.safetensors. Choose another.",
        ),
        (
            {"files": [{"name": "x.safetensors", "type": "Model"}]},
            f"{ID}: the answer of SITE is not that of its API (KeyError('sizeKB')).",
        ),
    ],
)
def test_versions_that_are_no_base_model(
    changes: dict[str, Any], sentence: str, civitai: FakeCivitai, models: Path
) -> None:
    civitai.add("128713", MODEL, **changes)
    assert refused(civitai, models) == sentence.replace("SITE", civitai.site)


@pytest.mark.parametrize("name", ["../../a.safetensors", "/etc/a.safetensors", "a\\b.safetensors", "a\nb.safetensors"])
def test_names_that_lead_elsewhere_are_refused(name: str, civitai: FakeCivitai, models: Path) -> None:
    civitai.add("128713", MODEL, name)
    assert refused(civitai, models) == f"{ID}: its file is named {name!r}, which would lead elsewhere. It was refused."


def test_a_file_without_a_stated_hash_is_refused(civitai: FakeCivitai, models: Path) -> None:
    civitai.add("128713", MODEL)["hashes"]["SHA256"] = None
    assert refused(civitai, models) == (
        f"{ID}: {civitai.site} states no SHA-256 of my Model (v1).safetensors. Give its address and --sha256."
    )


def test_the_token_goes_to_the_site_and_nowhere_else(
    civitai: FakeCivitai, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    civitai.token = "secret-5"
    assert refused(civitai, models) == (
        f"{civitai.site}/api/v1/model-versions/128713 answered 401: it needs a login. For {civitai.site}, set "
        "CIVITAI_TOKEN to an API key of your account."
    )
    monkeypatch.setenv("CIVITAI_TOKEN", "wrong-7")
    said = refused(civitai, models)
    assert said.endswith("CIVITAI_TOKEN is set: check that it is valid, and that its account may download this.")
    assert "wrong-7" not in said
    monkeypatch.setenv("CIVITAI_TOKEN", "secret-5")
    civitai.tokens.clear()
    get(civitai, models)
    assert {told for who, told in civitai.tokens if who == "site"} == {"Bearer secret-5"}
    assert {told for who, told in civitai.tokens if who == "store"} == {None}
    assert not [path for path in models.rglob("*") if path.is_file() and b"secret-5" in path.read_bytes()]


def test_a_login_page_instead_of_the_file_is_recognised(civitai: FakeCivitai, models: Path) -> None:
    civitai.page = True
    said = refused(civitai, models)
    assert said.startswith(f"{civitai.site}/api/download/models/128713 answers with a web page, not with a file.")
    assert "set CIVITAI_TOKEN" in said


def test_redirects_to_plain_http_and_endless_ones_are_refused(civitai: FakeCivitai, models: Path) -> None:
    address = f"{civitai.site}/api/download/models/128713"
    civitai.redirect = "http://example.com/model"
    assert refused(civitai, models) == (
        f"{address} is redirected to http://example.com: anybody on the way could exchange the file. It was refused."
    )
    civitai.redirect = "file:///etc/passwd"
    assert "is redirected to file://None: anybody on the way" in refused(civitai, models)
    civitai.redirect = "https://[broken"
    assert "'https://[broken' is no address (" in refused(civitai, models)
    civitai.redirect = f"{civitai.site}/loop"
    assert refused(civitai, models) == f"{address} is redirected more than 10 times. It was refused."
    assert civitai.asked.count("site /loop") == 10


def test_plain_http_is_for_this_machine_alone(civitai: FakeCivitai, models: Path) -> None:
    said = refused(civitai, models, "http://example.com/x.safetensors", sha256=SHA, place=PLACE)
    assert said == (
        "http://example.com/x.safetensors is no https address: anybody on the way could exchange the file. It was "
        "refused."
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "answered 404: there is no such file (any more). Check the address."),
        (500, "answered 500. Try again later; what has arrived so far is kept."),
    ],
)
def test_what_the_site_refuses_is_one_sentence(status: int, words: str, civitai: FakeCivitai, models: Path) -> None:
    civitai.statuses["/api/v1/model-versions/128713"] = status
    assert refused(civitai, models) == f"{civitai.site}/api/v1/model-versions/128713 {words}"


def test_without_a_connection_the_address_is_named(civitai: FakeCivitai, models: Path) -> None:
    civitai.site = "http://127.0.0.1:9"
    assert refused(civitai, models).startswith("http://127.0.0.1:9 cannot be reached (")


def test_a_full_disk_is_said_before_the_download(
    civitai: FakeCivitai, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(models.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    assert "its disk has 100 bytes free. Make room there" in refused(civitai, models)


def test_an_address_with_a_known_hash(civitai: FakeCivitai, models: Path) -> None:
    address = f"{civitai.site}/files/128713"
    assert refused(civitai, models, address, place=PLACE) == (
        f"{address}: say which file it has to be: --sha256 HASH, as its author states it."
    )
    assert "say which base model it shall be" in refused(civitai, models, address, sha256=SHA)
    assert "64 hexadecimal digits" in refused(civitai, models, address, place=PLACE, sha256="ab12")
    assert "arrived as" in refused(civitai, models, address, place=PLACE, sha256="0" * 64)
    get(civitai, models, address, place=PLACE, sha256=SHA.upper())
    assert (models / PLACE / "model.safetensors").read_bytes() == MODEL
    (models / PLACE / "model.safetensors").unlink()
    get(civitai, models, address)  # the lock file knows the rest
    assert (models / PLACE / "model.safetensors").read_bytes() == MODEL


@pytest.mark.parametrize("address", ["https://a:b@example.com/x.safetensors", "https://example.com/x?token=abc"])
def test_an_address_with_a_login_in_it_is_refused(address: str, civitai: FakeCivitai, models: Path) -> None:
    said = refused(civitai, models, address, place=PLACE, sha256=SHA)
    assert "has a login in it, which the lock file would keep" in said and "abc" not in said


def test_a_file_of_ones_own_with_a_known_hash(civitai: FakeCivitai, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    assert refused(civitai, models, str(path), place=PLACE, sha256=SHA) == f"There is no file {path}."
    path.write_bytes(OTHER)
    assert refused(civitai, models, str(path), place=PLACE, sha256=SHA) == (
        f"{path} has SHA-256 {sha256(OTHER).hexdigest()}, not {SHA}: it is another file, or was not copied whole."
    )
    path.write_bytes(MODEL)
    get(civitai, models, str(path), place=PLACE, sha256=SHA)
    assert (models / PLACE / "mine.safetensors").read_bytes() == MODEL and path.is_file()
    assert civitai.asked == []
    entry = json.loads((models / LOCK_FILE).read_text())[PLACE]
    assert (entry["repo"], entry["revision"]) == ("file:mine.safetensors", SHA)
    (models / PLACE / "mine.safetensors").unlink()
    with pytest.raises(FetchError, match=r"file:mine\.safetensors was a file of yours, which cannot be downloaded"):
        get(civitai, models, "file:mine.safetensors")
    get(civitai, models, str(path))
    assert (models / PLACE / "mine.safetensors").read_bytes() == MODEL


@pytest.mark.parametrize("name", ["base.safetensors", "base/model_index.json", "base/other.safetensors"])
def test_another_base_model_in_its_place_is_not_passed_over(name: str, civitai: FakeCivitai, models: Path) -> None:
    path = models / "sd15" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    with pytest.raises(FetchError) as error:
        get(civitai, models)
    assert (
        str(error.value) == f"{path} is there already, and is of another base model. Move it away, and run this again."
    )
    assert not any("download" in line for line in civitai.asked[2:])


def test_another_version_does_not_replace_the_locked_one(civitai: FakeCivitai, models: Path) -> None:
    get(civitai, models)
    civitai.add("5", OTHER)
    with pytest.raises(
        FetchError, match=r"sd15/base is locked to civitai:128713 in .*, not to civitai:5\. To change it"
    ):
        get(civitai, models, "civitai:5")
    assert (models / PLACE / NAME).read_bytes() == MODEL


def test_what_is_no_base_model_of_the_place_is_not_put_there(civitai: FakeCivitai, models: Path) -> None:
    said = refused(civitai, models, judge=lambda path, place: f"is no {place}." if path.is_file() else None)
    assert said == f"{PLACE}: {NAME} of {ID} is no sd15/base. It was not put into place."


def test_a_pickle_under_that_name_is_refused(civitai: FakeCivitai, models: Path) -> None:
    civitai.add("128713", b"\x80\x02}q\x00." * 100)
    assert "is a pickle checkpoint, which can run code when loaded" in refused(civitai, models)


def test_every_place_is_that_of_a_profile() -> None:
    places = set(civitai_places().values())
    assert places == {PROFILES[name]["base"] for name in ("sd15", "sdxl")} == places & set(known_models())
    assert civitai_places()["Illustrious"] == "sdxl/base" and civitai_places()["SD 1.5"] == "sd15/base"


def test_the_command_takes_files_checks_them_and_brings_locked_ones_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, civitai: FakeCivitai
) -> None:
    models = tmp_path / "models"
    monkeypatch.setenv("STICKER_MODELS", str(models))
    monkeypatch.setenv("STICKER_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setattr("sticker_pipeline.models.single.fetch_single", partial(fetch_single, site=civitai.site))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["fetch-models", *arguments])
        return result.exit_code, result.output

    good = write_header(tmp_path / "good.safetensors", checkpoint("sd15")).read_bytes()
    civitai.add("7", good, "Good.safetensors")
    code, said = run("civitai:7")
    assert code == 0 and (models / PLACE / "Good.safetensors").read_bytes() == good, said
    (models / PLACE / "Good.safetensors").unlink()
    code, said = run(PLACE)  # as doctor says
    assert code == 0 and (models / PLACE / "Good.safetensors").is_file(), said
    civitai.add("8", good, "Wrong.safetensors", baseModel="Pony")
    code, said = run("civitai:8")
    assert code == 1
    assert (
        "Wrong.safetensors of civitai:8 is a model of family sd15, not sdxl: choose a profile of that family." in said
    )
    assert not (models / "sdxl").exists()
    code, said = run("a/b", "--sha256", "0" * 64)
    assert code == 2 and "--as and --sha256 are about one single file" in said
    code, said = run("civitai:8", "--as", "embedded/base")
    assert code == 2 and "a base model is one of sd15/base, sdxl/base" in said


def test_a_profile_leaves_a_file_of_the_users_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sticker_pipeline.cli import models as cli

    said: list[str] = []
    monkeypatch.setattr(cli, "tell", said.append)
    (tmp_path / "sdxl").mkdir()
    (tmp_path / "sdxl" / "base.safetensors").write_bytes(b"")
    assert cli._still_wanted(tmp_path, ["sdxl/base", "wd-vit-tagger-v3"]) == ["wd-vit-tagger-v3"]
    assert said == [f"sdxl/base: {tmp_path}/sdxl/base.safetensors is there, and is used"]

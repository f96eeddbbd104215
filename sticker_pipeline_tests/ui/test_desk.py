"""The desk in a browser: an artist's daily steps, and other people's pages and names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.packing.picks import load_picks
from sticker_pipeline_tests.desk.example import NAME, TAGS, NoRuns, add_character, make_dataset, make_pack, session
from sticker_pipeline_tests.desk.served import served
from sticker_pipeline_tests.ui.listener import Listener, listening
from sticker_pipeline_tests.ui.person import CHROMIUM, browser

SECOND = 1000.0
ATTACK = """async ([url, name]) => {
  const body = JSON.stringify({}), tried = {};
  const attempt = async (key, act) => { try { tried[key] = String(await act()); } catch (error) { tried[key] = "!" + error; } };
  await attempt("plain", async () => (await fetch(`${url}/desk/c/${name}/api/update`, {method: "POST", mode: "no-cors", body})).type);
  await attempt("json", async () => (await fetch(`${url}/desk/c/${name}/api/update`, {method: "POST", headers: {"content-type": "application/json"}, body})).status);
  await attempt("read", async () => (await fetch(`${url}/desk/c/${name}`)).status);
  await attempt("beacon", async () => navigator.sendBeacon(`${url}/desk/c/${name}/api/update`, new Blob([body], {type: "text/plain"})));
  await attempt("image", () => new Promise((done) => { const image = new Image(); image.onload = () => done("seen"); image.onerror = () => done("not seen"); image.src = `${url}/desk/c/${name}/cover.webp`; }));
  await attempt("frame", () => new Promise((done) => { const frame = document.createElement("iframe"); frame.onload = () => { try { done(frame.contentDocument === null ? "closed" : frame.contentDocument.body.innerText); } catch (error) { done("closed"); } }; frame.src = `${url}/desk/c/${name}`; document.body.append(frame); setTimeout(done, 3000, "closed"); }));
  return tried;
}"""  # noqa: E501

MORE_ATTACKS = """async (url) => {
  const tried = {}, body = document.body;
  const form = Object.assign(document.createElement("form"), {method: "POST", action: `${url}/api/update`, enctype: "text/plain"});
  body.append(form);
  form.submit();
  await new Promise((done) => setTimeout(done, 500));
  tried.form = location.pathname.endsWith("pack.html") ? "stays" : location.href;
  tried.window = String(window.open(url));
  const code = URL.createObjectURL(new Blob([`fetch("${url}/api/update", {method: "POST", headers: {"content-type": "application/json"}, body: "{}"})`]));
  tried.worker = await new Promise((done) => { try { const one = new Worker(code); one.onerror = () => done("!"); one.onmessage = () => done("works"); setTimeout(done, 2000, "works"); } catch { done("!"); } });
  body.append(Object.assign(document.createElement("script"), {textContent: "window.attacked = 1"}));
  tried.inline = String(window.attacked);
  document.querySelector("meta[http-equiv]").remove();
  body.append(Object.assign(document.createElement("script"), {textContent: "window.attacked = 2"}));
  tried.policy = String(window.attacked);
  return tried;
}"""  # noqa: E501


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with browser() as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_character(tmp_path)
    make_dataset(tmp_path)
    return tmp_path


@pytest.fixture
def runs() -> NoRuns:
    return NoRuns()


@pytest.fixture
def address(root: Path, runs: NoRuns) -> Iterator[str]:
    desk = session(root)
    desk.runs = runs  # type: ignore[assignment]
    with served(root, desk) as found:
        yield found


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(30 * SECOND)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if "Policy" in message.text else None)
    opened.goto(f"{address}/desk/c/{NAME}")
    opened.wait_for_selector(".cell img")
    yield opened
    opened.close()
    assert problems == []


def count(page: Any, text: str) -> None:
    page.wait_for_function("(text) => document.getElementById('count').textContent.startsWith(text)", arg=text)


def confirm(page: Any, button: str) -> None:
    page.locator("dialog").get_by_role("button", name=button).click()


def test_tags_are_added_over_a_filter_and_undone(page: Any, root: Path) -> None:
    page.keyboard.press("/")
    page.keyboard.type("smi")
    page.locator("#suggestions button", has_text="smile").click()
    count(page, "3 of 6")
    page.locator("#grid").focus()
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Add tags").click()
    page.locator("dialog input").fill("scarf, red hat")
    confirm(page, "Show the change")
    page.locator("dialog ins").first.wait_for()
    shown = page.locator("dialog ins").all_inner_texts()
    assert shown == ["smile, waving, scarf, red hat", "smile, hat, scarf, red hat"]
    confirm(page, "Write")
    page.wait_for_selector(".cell.pending")
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "smile, hat, scarf, red hat\n"
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".cell.pending", state="detached")
    assert not (root / "characters/fox/stickers/happy.txt").exists()


def test_a_caption_is_mended_by_keyboard(page: Any, root: Path) -> None:
    page.locator("#grid").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):  # after two frames of the GIF and the broken file
        page.keyboard.press(key)
    page.wait_for_selector("#caption")
    assert page.locator("#detail h2").inner_text() == "stickers/happy.png"
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("grin, hat")
    page.keyboard.press("Control+Enter")
    page.get_by_text("1 caption written").wait_for()
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "grin, hat\n"
    page.get_by_text("Caption of stickers/happy.txt").wait_for()


def test_what_an_editor_changed_is_not_overwritten(page: Any, root: Path) -> None:
    page.locator(".cell", has_text="hat").click()
    page.wait_for_selector("#caption")
    (root / "characters/fox/stickers/happy.txt").write_text("of an editor")
    page.locator("#caption").fill("mine")
    page.get_by_role("button", name="Save caption").click()
    page.locator("#message.error", has_text="changed meanwhile. It is now: of an editor").wait_for()
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "of an editor"
    page.get_by_text("Not saved. On the disk: of an editor").wait_for()
    assert page.locator("#caption").input_value() == "mine"
    page.get_by_role("button", name="Save caption").click()
    page.get_by_text("1 caption written").wait_for()
    assert (root / "characters/fox/stickers/happy.txt").read_text() == "mine"


def test_a_text_that_is_not_saved_survives_other_work(page: Any) -> None:
    page.locator(".cell", has_text="hat").click()
    page.wait_for_selector("#caption")
    page.locator("#caption").fill("half a")
    page.locator(".cell", has_text="crying").click()
    page.locator("#detail h2", has_text="sad").wait_for()
    page.locator("#caption").fill("tears")
    page.get_by_role("button", name="Save caption").click()
    page.get_by_text("1 caption written").wait_for()
    page.locator(".cell", has_text="hat").click()
    page.get_by_text("Not saved. On the disk: smile, hat").wait_for()
    assert page.locator("#caption").input_value() == "half a"
    page.locator("#caption").fill("smile, hat")


def test_a_file_is_excluded_after_its_difference_was_shown(page: Any, root: Path) -> None:
    page.locator(".cell", has_text="crying").click()
    page.wait_for_selector("#caption")
    page.locator("#grid").focus()
    page.keyboard.press("x")
    page.locator("dialog .new", has_text="  exclude: [stickers/sad.png]").wait_for()
    confirm(page, "Write")
    page.wait_for_selector(".cell.excluded")
    assert (root / "characters/fox/character.yaml").read_text().endswith("media:\n  exclude: [stickers/sad.png]\n")
    make_dataset(root)
    page.reload()
    page.wait_for_selector(".cell img")
    page.get_by_label("State").select_option("excluded")
    count(page, "1 of 6")


def test_an_update_is_started(page: Any, runs: NoRuns) -> None:
    page.get_by_role("button", name="Bring up to date").click()
    page.get_by_text("The update has begun").wait_for()
    assert runs.asked == [("update", NAME)]


@pytest.mark.parametrize("tab", ["images", "duplicates", "training", "compare", "gate", "releases", "pack", "settings"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_part_fits(chromium: Any, address: str, tab: str, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.goto(f"{address}/desk/c/{NAME}#{tab}")
    page.wait_for_selector(f"#{tab} *")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_without_a_pack_one_line_says_how_to_get_one(page: Any) -> None:
    page.get_by_role("tab", name="Pack").click()
    page.get_by_text(f"sticker-pipeline pack {NAME}").wait_for()
    assert page.locator("#pack > *").count() == 1


@pytest.mark.parametrize("width", [390, 1440])
def test_the_pack_is_shown_and_its_page_works(
    chromium: Any, root: Path, address: str, tmp_path: Path, width: int
) -> None:
    make_pack(root)
    page = chromium.new_page(viewport={"width": width, "height": 844}, accept_downloads=True)
    page.goto(f"{address}/desk/c/{NAME}#pack")
    page.locator(".stickers li").first.wait_for()
    assert [text.split()[0] for text in page.locator(".stickers b").all_inner_texts()] == ["hello", "thanks"]
    assert page.locator(".stickers img").first.evaluate("(image) => [image.clientWidth, image.clientHeight]") == [
        128,
        128,
    ]
    grounds = page.locator(".stickers .chat").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(grounds)) == 2
    assert page.locator(".gaps").inner_text().startswith("Gaps: no ")
    assert "it shows the same as hello.png" in page.locator(".rejected").inner_text()
    assert page.locator(".checks b", has_text="no gaps").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == width
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Choose other candidates").click()
    choose_on_its_page(opened.value, tmp_path / "choice")
    page.close()


def choose_on_its_page(page: Any, folder: Path) -> None:
    """Every image is there, the YAML is shown, and its download is read as picks."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.wait_for_url("**/pack/pack.html")
    page.reload()  # so that all it says is heard
    page.locator(".card .large").first.wait_for()
    page.locator(".card .large").evaluate_all("(all) => all.forEach((one) => { one.loading = 'eager'; })")
    loaded = "(all) => Promise.all(all.map((one) => one.decode().then(() => one.naturalWidth)))"
    assert page.locator(".card .large").evaluate_all(loaded) == [200, 200, 200]
    assert page.evaluate("window.opener") is None
    copy = page.locator(".card").filter(has=page.get_by_text("hello_2", exact=False))
    copy.get_by_role("button", name="Accept").click()
    shown = page.input_value("#yaml")
    assert shown.startswith('accept:\n  hello: "hello_2-')
    copy.get_by_role("button", name="All chats").click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#all").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download picks.yaml").click()
    (folder / "pack").mkdir(parents=True)
    download.value.save_as(folder / "pack" / "picks.yaml")
    assert list(load_picks(folder).accept) == ["hello"]
    (warning,) = set(complaints)  # of every sandbox with an origin; an outer page could lift it, none may be outer
    assert warning.startswith("An iframe which has both allow-scripts and allow-same-origin")


def test_a_script_in_the_page_of_the_pack_cannot_reach_the_desk(
    chromium: Any, root: Path, address: str, runs: NoRuns
) -> None:
    """Playwright runs the attack as a script that has got into the page: with the page's origin, beside its policy."""
    make_pack(root)
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{address}/desk/c/{NAME}/pack/pack.html")
    tried = page.evaluate(ATTACK, [address, NAME])
    assert [tried[way][:1] for way in ("plain", "json", "read")] == ["!", "!", "!"]
    assert tried["frame"] == "closed"
    assert page.evaluate(MORE_ATTACKS, f"{address}/desk/c/{NAME}") == {
        "form": "stays", "window": "null", "worker": "!", "inline": "undefined", "policy": "undefined"
    }  # fmt: skip
    assert page.url.endswith("/pack/pack.html")
    assert len(page.context.pages) == 1
    assert any("connect-src 'none'" in text for text in refused)
    page.close()
    assert runs.asked == []


def test_other_pages_change_and_read_nothing(chromium: Any, address: str, runs: NoRuns) -> None:
    with listening() as elsewhere:
        elsewhere.page = "<!doctype html><title>a game</title>"
        page = chromium.new_page()
        page.goto(f"{elsewhere.url}/page")
        tried = page.evaluate(ATTACK, [address, NAME])
        page.close()
    assert runs.asked == []
    assert [tried[way][:1] for way in ("plain", "json", "read")] == ["!", "!", "!"]
    assert (tried["image"], tried["frame"]) == ("not seen", "closed")


def test_names_and_captions_are_text_and_ask_for_nothing(chromium: Any, tmp_path: Path) -> None:
    with listening() as elsewhere:
        folder = add_attacker(tmp_path, elsewhere)
        names = [f"stickers/{path.name}" for path in folder.glob("stickers/*.png")]
        make_dataset(tmp_path, tags={**TAGS, **{name: ["smile"] for name in names}})
        with served(tmp_path) as address:
            page = chromium.new_page()
            dialogs: list[str] = []
            page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
            page.goto(f"{address}/desk/c/{NAME}")
            page.wait_for_selector(".cell img")
            for cell in page.locator(".cell").all():
                cell.click()
                page.wait_for_timeout(200)
            for tab in ("duplicates", "settings"):
                page.click(f"[data-tab={tab}]")
                page.wait_for_timeout(500)
            assert page.locator("img[src=x], b b, script").count() == 2  # the page's own scripts
            page.close()
        assert dialogs == []
        assert elsewhere.heard == []


def add_attacker(root: Path, elsewhere: Listener) -> Path:
    """Add the character with attacks as file name, caption and settings."""
    folder = add_character(root)
    image = '"><img src=x onerror=alert(1)><b>'
    (folder / "stickers/happy.png").rename(folder / f"stickers/{image}.png")
    attack = f"<img src={elsewhere.url}/a.png onerror=alert(2)><script>alert(3)</script>"
    (folder / "stickers/sad.txt").write_text(attack)
    blacklist = json.dumps([f"![x]({elsewhere.url}/b.png)", attack.replace(",", "")])
    (folder / "character.yaml").write_text(f"trigger: skv_fox\ncuration: {{min_images: 1, blacklist: {blacklist}}}\n")
    return folder

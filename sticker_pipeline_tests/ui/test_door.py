"""Other people's pages and texts have no effect on the UI in a browser."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.ui.deployment import Deployment, deployment
from sticker_pipeline_tests.ui.listener import Listener, listening
from sticker_pipeline_tests.ui.person import CHROMIUM, MINUTE, Person, visit

pytestmark = pytest.mark.timeout(1800)  # a whole line is made

NAME = "mallory"
SHOWN = ["raw_media", "frames", "frame_weights", "wd14_tags", "curated_tags", "training_set", "lora", "selected_lora",
         "samples", "benchmark", "released_lora", "comfyui_workflow", "pack_candidates",
         "sticker_pack"]  # fmt: skip
ACROSS = ["leaderboard", "report"]
QUOTED = [  # asset, entry, attack: texts that are shown as they are
    ("samples", "left_out", "tensor"),
    ("released_lora", "model_card", "prompt"),
    ("sticker_pack", "problems", "accepted"),
]
SELECTOR = '{repositoryName: "__repository__", repositoryLocationName: "sticker_pipeline"}'
ADD = (
    f'mutation {{addDynamicPartition(partitionsDefName: "{CHARACTERS.name}", partitionKey: "%s", repositorySelector: '
    f"{SELECTOR}) {{__typename}}}}"
)
LAUNCH = """mutation ($params: ExecutionParams!) {launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on RunConfigValidationInvalid {errors {message}}}}"""

# Every way in which a page sends something to another address without being asked whether it may.
PAGE = """<!doctype html><title>a game</title><body><script>
const ui = "%(ui)s", add = (name) => `%(add)s`.replace("%%s", name);
const get = (name) => `${ui}/graphql?query=` + encodeURIComponent(add(name));
const body = (name) => JSON.stringify({query: add(name)});
const tried = {};
const attempt = async (name, does) => {
    try { tried[name] = String(await does(name)); } catch (error) { tried[name] = "!" + error; } };
const answered = async (request) => { const answer = await request; return answer.type + " " + (await answer.text()); };
const form = (name, enctype, fields) => new Promise((done) => {
    const frame = document.createElement("iframe"); frame.name = name;
    const form = Object.assign(document.createElement("form"),
        {action: get(name), method: "POST", enctype, target: name});
    for (const [key, value] of Object.entries(fields)) {
        const input = document.createElement("input"); input.name = key; input.value = value; form.append(input);
    }
    document.body.append(frame, form); frame.onload = () => done("sent"); form.submit(); setTimeout(done, 3000, "sent");
});
const socket = (name) => new Promise((done) => {
    const it = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
    it.onopen = () => done("open"); it.onclose = (event) => done("closed " + event.code); it.onerror = () => {};
});
(async () => {
    await attempt("image", (name) => new Promise((done) => {
        const image = new Image(); image.onload = image.onerror = () => done("sent"); image.src = get(name); }));
    await attempt("script", (name) => new Promise((done) => {
        const script = document.createElement("script"); script.onload = script.onerror = () => done("sent");
        script.src = get(name); document.body.append(script); }));
    await attempt("frame", (name) => new Promise((done) => {
        const frame = document.createElement("iframe"); frame.onload = () => done("sent"); frame.src = get(name);
        document.body.append(frame); setTimeout(done, 3000, "sent"); }));
    await attempt("get", (name) => answered(fetch(get(name), {mode: "no-cors"})));
    await attempt("read", () => answered(fetch(`${ui}/server_info`)));
    await attempt("plain", (name) => answered(
        fetch(`${ui}/graphql`, {method: "POST", mode: "no-cors", body: body(name)})));
    await attempt("bytes", (name) => answered(
        fetch(get(name), {method: "POST", mode: "no-cors", body: new Blob([body(name)])})));
    await attempt("json", (name) => answered(fetch(`${ui}/graphql`,
        {method: "POST", headers: {"content-type": "application/json"}, body: body(name)})));
    await attempt("lie", (name) => answered(fetch(`${ui}/graphql`, {method: "POST", mode: "no-cors",
        headers: {"content-type": "text/plain; application/json"}, body: body(name)})));
    await attempt("beacon", (name) => navigator.sendBeacon(get(name), new Blob([body(name)], {type: "text/plain"})));
    await attempt("form", (name) => form(name, "application/x-www-form-urlencoded", {query: add(name)}));
    await attempt("multipart", (name) => form(name, "multipart/form-data", {query: add(name)}));
    await attempt("plainform", (name) => form(name, "text/plain",
        {[`{"query": ${JSON.stringify(add(name))}, "a": "`]: '"}'}));
    await attempt("report", (name) => answered(fetch(`${ui}/report_asset_materialization/lora?partition=${name}`,
        {method: "POST", mode: "no-cors"})));
    await attempt("socket", socket);
    window.tried = tried;
})();
</script>"""


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, listener: Listener) -> Iterator[Deployment]:
    """The UI of one character, all of whose texts are attacks; each would ask the listener for an image."""
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    root = tmp_path_factory.mktemp("door")
    add_attacker(root / "characters" / NAME, listener.url)
    with deployment(root) as there:
        deadline = time.monotonic() + 120
        while NAME not in state(there)[0]:  # or a test would take what the folder sensor adds for an attack
            assert time.monotonic() < deadline, "the folder sensor has not added the character"
            time.sleep(1)
        yield there


def attack(url: str, name: str) -> str:
    return f"![{name}]({url}/{name}.png)"


def add_attacker(folder: Path, url: str) -> None:
    """A character of which every text that may be any is an attack: file names, captions, prompts, tags, tensors."""
    from safetensors.numpy import save_file

    settings = SETTINGS.replace("[small_sticker]", f"[{json.dumps(attack(url, 'learned'))}]").replace(
        'prompts: ["angry, arms up"]',
        f'prompts: ["angry, arms up", "```", {json.dumps("smile, " + attack(url, "prompt"))}], '
        "rivals: [{name: evil, lora: evil.safetensors, trigger: evil}]",
    )
    pack = {
        "platforms": ["telegram"],
        "slots": ["hello", "own"],
        "prompts": {"own": f"smile, {attack(url, 'slot')}"},
        "seeds": 1,
        "title": attack(url, "title"),
    }
    settings += f"pack: {json.dumps(pack)}\n"
    add_small_character(folder, "bram_thistle", settings)
    in_name = attack(url.replace("/", "&#47;"), "file").replace("/", "&#47;")  # a file's name has no slash
    images = sorted((folder / "stickers").iterdir())
    images[0].rename(images[0].with_name(f"{in_name}{images[0].suffix}"))
    images[1].with_suffix(".txt").write_text(f"smile, {attack(url, 'caption')}\n", encoding="utf-8")
    (folder / "art" / f"{in_name}.gif").write_bytes(b"GIF89a\x10\x00")
    picks = {
        "accept": {"hello": attack(url, "accepted")},
        "reject": [attack(url, "rejected")],
        "text": {"own": attack(url, "text")},
    }
    (folder / "pack").mkdir()
    (folder / "pack" / "picks.yaml").write_text(json.dumps(picks), encoding="utf-8")
    save_file({attack(url, "tensor"): np.zeros((4, 4), np.float32)}, folder / "evil.safetensors")


@pytest.fixture(scope="module")
def chromium(ui: Deployment) -> Iterator[Any]:
    """A browser for which the name evil.example is this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        opened = engine.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP evil.example 127.0.0.1"],
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def made(ui: Deployment, chromium: Any) -> str:
    """The attacker's character, made in the UI: launch, log and images come through the door."""
    with visit(chromium, ui.url) as somebody:
        somebody.job("character_line")
        run = somebody.launch(NAME)
        assert somebody.follow(run) == "SUCCESS"
        somebody.job("pack_line")
        assert somebody.follow(somebody.launch(NAME)) == "SUCCESS"
        somebody.job("leaderboard_table")
        assert somebody.follow(somebody.launch()) == "SUCCESS"
    return run


def ask(ui: Deployment, query: str, **variables: Any) -> dict[str, Any]:
    """A program that is no browser asks."""
    request = urllib.request.Request(
        f"{ui.url}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.load(answer)["data"])


def state(ui: Deployment) -> tuple[set[str], int]:
    """The characters that Dagster knows, and how many runs and events there are."""
    with dg.DagsterInstance.from_config(str(ui.home)) as instance:
        reported = instance.fetch_materializations(dg.AssetKey("lora"), limit=100).records
        return set(instance.get_dynamic_partitions(str(CHARACTERS.name))), instance.get_runs_count() + len(reported)


@pytest.mark.parametrize("site", ["http://127.0.0.1", "http://localhost"])  # of another port, and of another name
def test_a_page_of_another_origin_changes_and_reads_nothing(
    ui: Deployment, chromium: Any, listener: Listener, site: str
) -> None:
    before = state(ui)
    listener.page = PAGE % {"ui": ui.url, "add": ADD}
    with visit(chromium, f"{site}:{listener.url.rpartition(':')[2]}/page") as victim:
        victim.page.wait_for_function("() => window.tried !== undefined")
        tried = victim.page.evaluate("window.tried")
        popup = victim.page.context.new_page()
        popup.goto(f"{ui.url}/graphql?query={urllib.request.quote(ADD % 'visit')}")
        assert "GraphQL is not taken from an address" in popup.inner_text("body")
    assert state(ui) == before
    assert set(tried) >= {"image", "script", "frame", "get", "plain", "json", "lie", "form", "multipart", "socket"}
    assert tried["socket"].startswith("closed"), tried
    for name in ("read", "json"):
        assert tried[name].startswith("!TypeError"), (name, tried[name])
    assert not any("dagster" in answer for answer in tried.values()), tried


def test_a_name_that_was_pointed_at_this_machine_is_not_served(ui: Deployment, chromium: Any) -> None:
    before = state(ui)
    rebound = ui.url.replace("127.0.0.1", "evil.example")
    with visit(chromium, rebound) as victim:
        assert victim.page.inner_text("body").startswith("The address 'evil.example:")
        answer = victim.page.evaluate(
            """async (query) => { const answer = await fetch("/graphql", {method: "POST",
                headers: {"content-type": "application/json"}, body: JSON.stringify({query})});
                return answer.status; }""",
            ADD % "rebound",
        )
        opened = victim.page.evaluate(
            """() => new Promise((done) => { const it = new WebSocket(`ws://${location.host}/graphql`, "graphql-ws");
                it.onopen = () => done("open"); it.onclose = () => done("closed"); })"""
        )
    assert (answer, opened) == (421, "closed")
    assert state(ui) == before


def test_the_ui_is_in_no_frame(ui: Deployment, chromium: Any, listener: Listener) -> None:
    listener.page = f'<!doctype html><iframe src="{ui.url}/" width=900 height=500></iframe>'
    with visit(chromium, f"{listener.url}/page") as victim:
        victim.page.wait_for_timeout(2000)
        (frame,) = victim.page.frames[1:]
        assert "Dagster" not in frame.content()


def test_a_program_that_is_no_browser_is_let_in(ui: Deployment) -> None:
    assert ask(ui, "{version}")["version"] == dg.__version__


@pytest.mark.parametrize(
    "configured",
    [
        {"resources": {"workspace": {"config": {"characters": "elsewhere/theirs"}}}},
        {"resources": {"io_manager": {"config": {"base_dir": "elsewhere/theirs"}}}},
        {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["antigravity"]}}}}},
    ],
)
def test_a_launch_that_configures_anything_is_refused(ui: Deployment, configured: dict[str, Any]) -> None:
    before = state(ui)
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "sticker_pipeline",
        "jobName": "dataset_line",
    }
    params = {"selector": selector, "runConfigData": configured}
    launched = ask(ui, LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "RunConfigValidationInvalid", launched
    assert state(ui) == before


@contextmanager
def watched(chromium: Any, ui: Deployment, *, policy: bool) -> Iterator[Person]:
    """A person who opens every dialog; without the `policy` of our door only the escapes of the texts stand."""
    with visit(chromium, ui.url, bypass_csp=not policy) as somebody:
        yield somebody


def open_everything(person: Person) -> int:
    """Open every dialog of metadata on the page, one after the other; returns how many there were."""
    person.page.wait_for_load_state("networkidle")
    buttons = person.page.get_by_text("[Show Markdown]", exact=True)
    for number in range(buttons.count()):
        buttons.nth(number).click()
        person.page.get_by_role("dialog").locator(".dagster-markdown").first.wait_for()
        person.close_dialog()
    return int(buttons.count())


@contextmanager
def shown(person: Person, key: str) -> Iterator[Any]:
    """The rendered markdown of the entry `key`: in a dialog, or where it is short, on the page."""
    row = person.entry(key)
    button = row.get_by_text("[Show Markdown]")
    if not button.count():
        yield row.locator(".dagster-markdown")
        return
    button.click()
    text = person.page.get_by_role("dialog").locator(".dagster-markdown")
    text.wait_for()
    yield text
    person.close_dialog()


def checks_of_assets() -> dict[str, list[dg.AssetCheckSpec]]:
    graph = defs().resolve_asset_graph()
    found: dict[str, list[dg.AssetCheckSpec]] = {}
    for key in sorted(graph.asset_check_keys):
        found.setdefault(key.asset_key.to_user_string(), []).append(graph.get_check_spec(key))
    return found


def test_no_text_of_somebody_else_asks_anybody_for_anything(
    ui: Deployment, chromium: Any, made: str, listener: Listener
) -> None:
    """With our policy off: what is escaped needs none."""
    listener.heard.clear()
    opened = {}
    with watched(chromium, ui, policy=False) as person:
        for asset in SHOWN:
            person.partition(asset, NAME)
            person.entry("summary").wait_for()
            opened[asset] = open_everything(person)
        for asset, checks in checks_of_assets().items():
            person.asset(asset, "Checks")
            for check in checks:
                person.page.get_by_text(check.name, exact=True).first.click()
                person.page.get_by_text(str(check.description), exact=True).first.wait_for()
                person.entry("evidence")
                open_everything(person)
        for asset in ACROSS:
            person.asset(asset)
            opened[asset] = open_everything(person)
        for page in (made, "/runs", "/automation", "/deployment/locations"):
            person.go_to(page)
            person.page.wait_for_load_state("networkidle")
        for asset, key, name in QUOTED:
            person.partition(asset, NAME)
            with shown(person, key) as text:
                assert attack(listener.url, name) in text.inner_text()
                assert text.locator("img, a").count() == 0
    assert opened["released_lora"] and opened["samples"] and opened["benchmark"], opened
    assert listener.heard == []


@pytest.mark.parametrize(("policy", "heard"), [(False, ["/control.png"]), (True, [])])
def test_what_slips_through_asks_nobody_by_our_policy(
    ui: Deployment, chromium: Any, listener: Listener, policy: bool, heard: list[str]
) -> None:
    """The control: with the policy off, markdown that nobody escaped is heard. Raw, it stays: tests above go first."""
    with dg.DagsterInstance.from_config(str(ui.home)) as instance:
        raw = {"raw": dg.MetadataValue.md(attack(listener.url, "control"))}
        instance.report_runless_asset_event(dg.AssetMaterialization("report", metadata=raw))
    listener.heard.clear()
    with watched(chromium, ui, policy=policy) as person:
        person.asset("report")
        person.entry("raw").wait_for()
        open_everything(person)
        person.page.wait_for_timeout(2000)
    assert listener.heard == heard


def test_ctrl_c_saves_a_training_and_leaves_no_process(ui: Deployment, chromium: Any, made: str) -> None:
    """The last test of the file: afterwards the UI is gone."""
    long = (
        (ui.characters / NAME / "character.yaml").read_text().replace("epochs: 2, samples_per_epoch: 96", "epochs: 50")
    )
    (ui.characters / NAME / "character.yaml").write_text(long, encoding="utf-8")
    with visit(chromium, ui.url) as person:
        person.asset("lora")
        run = person.launch(NAME)
        person.go_to(run)
        person.page.get_by_text("ASSET_OBSERVATION").first.wait_for(timeout=5 * MINUTE)
    (guard,) = ui.processes("sticker_pipeline ui")
    guard.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 120
    while ui.processes():
        assert time.monotonic() < deadline, ui.processes()
        time.sleep(0.2)
    with dg.DagsterInstance.from_config(str(ui.home)) as instance:
        ended = instance.get_run_by_id(run.rpartition("/")[2])
        assert ended is not None and ended.status == dg.DagsterRunStatus.CANCELED
    (saved,) = (ui.store.work(NAME, "lora") / "state").glob("step_*")
    assert int(saved.name.split("_")[1]) > 0

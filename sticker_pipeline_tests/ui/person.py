"""A person's steps in Dagster's UI; each waits for its result."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ENDS = ("SUCCESS", "FAILURE", "CANCELED")
ENDED = f"() => /{'|'.join(ENDS)}/.test(document.title)"  # of the page of a run
STATUS = "query ($run: ID!) {runOrError(runId: $run) {... on Run {status}}}"
# What the lineage graph shows: the text of each box, whether it is a group's, and where it begins.
BOXES = """() => [...document.querySelectorAll("svg foreignObject")].filter((box) => box.textContent).map((box) => ({
    name: box.querySelector("[data-tooltip]")?.dataset.tooltip ?? box.textContent,
    group: box.querySelector("[class*=GroupNode]") !== null, x: box.x.baseVal.value}))"""
MINUTE = 60_000.0  # in milliseconds, as Playwright counts


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's chromium, without a screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def visit(chromium: Any, url: str, **settings: Any) -> Iterator["Person"]:
    """A person who was never here before, and is patient: the machine may be busy."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light", **settings)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(2 * MINUTE)
    page.goto(url)
    yield Person(page, url)
    context.close()


@dataclass(frozen=True)
class Person:
    """Somebody who looks at `page`, a Playwright page of the UI at `url`."""

    page: Any
    url: str

    def go_to(self, path: str) -> None:
        self.page.goto(self.url + path)

    def follow_link(self, text: str) -> None:
        self.page.get_by_role("link").filter(has=self.page.get_by_text(text, exact=True)).first.click()

    def job(self, name: str) -> None:
        """From anywhere, by clicks, to the job's page."""
        self.follow_link("Jobs")
        self.follow_link(name)
        self.page.wait_for_url(f"**/jobs/{name}**")

    def asset(self, name: str, tab: str = "Overview") -> None:
        self.go_to(f"/assets/{name}")
        if tab != "Overview":
            self.page.get_by_role("tablist").get_by_text(tab, exact=True).click()

    def launch(self, partition: str | None = None) -> str:
        """Press Materialize on this page, choose the partition, launch; return the run's page.

        Without partitions, none is chosen.
        """
        page = self.page
        page.get_by_role("button", name="Materialize").first.click()
        if partition is not None:
            dialog = page.get_by_role("dialog").filter(has_text="Launch runs")
            dialog.get_by_text("Select a partition or create one").click()
            choice = page.locator("label").filter(has=page.get_by_text(partition, exact=True))
            choice.click()
            page.keyboard.press("Escape")  # closes the choices, not the dialog
            choice.wait_for(state="hidden")
            page.get_by_role("button", name="Launch 1 run").click()
        started = page.locator('a[href^="/runs/"]', has_text="View")
        return str(started.get_attribute("href"))

    def terminate(self, run: str) -> str:
        """Press Terminate on the run's page and confirm; returns how the run ends."""
        if not self.page.url.startswith(self.url + run):
            self.go_to(run)
        self.page.get_by_role("button").filter(has_text="Terminate").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Terminate 1 run").click()
        dialog.get_by_text("Successfully requested termination").wait_for()
        dialog.get_by_role("button", name="Done").click()
        return self.shown_end()

    def follow(self, run: str, minutes: float = 20) -> str:
        """Look at the run when it has ended; returns how: SUCCESS, FAILURE or CANCELED.

        Meanwhile no page is open: without a GPU, moving parts of a run's page take most of a core.
        """
        self.page.goto("about:blank")
        deadline = time.monotonic() + 60 * minutes
        while self.status(run) not in ENDS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"After {minutes} minutes the run {run} is {self.status(run)}.")
            self.page.wait_for_timeout(500)
        self.go_to(run)
        return self.shown_end()

    def status(self, run: str) -> str:
        """The run's status, asked without a page."""
        asked = {"query": STATUS, "variables": {"run": run.rpartition("/")[2]}}
        answer = self.page.request.post(f"{self.url}/graphql", data=asked, timeout=2 * MINUTE)
        return str(answer.json()["data"]["runOrError"]["status"])

    def shown_end(self) -> str:
        """Return the run's end, as the title of its open page says."""
        self.page.wait_for_function(ENDED)
        return str(self.page.title()).rpartition("[")[2].rstrip("]")

    def tag(self, run: str, text: re.Pattern[str], minutes: float = 2) -> None:
        """Wait until a tag with the text shows on the run's page, which keeps the tags that it was loaded with."""
        deadline = time.monotonic() + 60 * minutes
        while True:
            self.go_to(run)
            self.page.get_by_role("button", name="View tags and config").click()
            dialog = self.page.get_by_role("dialog")
            dialog.get_by_text("Copy tags").wait_for()
            if dialog.get_by_text(text).count():
                return self.close_dialog()
            if time.monotonic() > deadline:
                raise TimeoutError(f"After {minutes} minutes no tag is {text.pattern}: {dialog.inner_text()}")
            self.page.wait_for_timeout(2000)

    def partition(self, asset: str, name: str) -> None:
        """Open the asset's page for one character."""
        self.asset(asset, "Partitions")
        self.page.get_by_text(name, exact=True).first.click()
        self.page.wait_for_url(f"**partition={name}**")

    def wait_for_partition(self, name: str, minutes: float = 2) -> None:
        """Wait until the folder sensor, which looks every 30 s, has added the character."""
        deadline = time.monotonic() + 60 * minutes
        self.asset("raw_media", "Partitions")
        listed = self.page.get_by_text(name, exact=True).first
        while True:
            self.page.get_by_text("Partitions Selected").wait_for()
            if listed.is_visible():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"After {minutes} minutes there is no partition {name}.")
            self.page.wait_for_timeout(1000)
            self.page.reload()

    def entry(self, key: str) -> Any:
        """The row of the entry `key` of the metadata that the page shows."""
        row = self.page.locator("tr").filter(has=self.page.get_by_text(key, exact=True)).first
        row.wait_for()
        return row

    def image(self, key: str) -> Any:
        """Open the image of the entry `key`; returns it when the browser has decoded it."""
        self.entry(key).get_by_text("[Show Markdown]").click()
        image = self.page.get_by_role("dialog").locator("img")
        image.wait_for()
        image.evaluate("(image) => image.decode()")
        return image

    def close_dialog(self) -> None:
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Close").or_(dialog.get_by_role("button", name="OK")).click()
        dialog.wait_for(state="hidden")

    def table(self, key: str) -> list[list[str]]:
        """The cells of the table of the entry `key`, its head first."""
        rows = self.entry(key).locator("table tr")
        rows.first.wait_for()
        return rows.evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim()))")

    def lineage(self) -> None:
        """From anywhere, by a click, to the graph of all assets, whose groups are closed."""
        self.follow_link("Lineage")
        self.boxes("publishing")

    def boxes(self, having: str) -> list[dict[str, Any]]:
        """The boxes of the lineage graph on this page, once one of them is `having`."""
        self.page.wait_for_function(f"(name) => ({BOXES})().some((box) => box.name === name)", arg=having)
        return self.page.evaluate(BOXES)

// The page of one character: tabs, runs, and what is shown again after a change.
import { body, byId, element, fill, read, say, tried, write } from "./dom.js";
import { reloadImages, setGroups, startImages } from "./images.js";
import { showPack } from "./pack.js";
import { showComparison, showDuplicates, showGate, showReleases, showTraining } from "./sections.js";
import { showSettings, startSettings } from "./settings.js";

const OFTEN = 2000, SELDOM = 15000; // milliseconds between looks at the run
let last;

function tab(name) {
  for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.id !== name;
  for (const button of document.querySelectorAll("[data-tab]")) button.setAttribute("aria-selected", button.dataset.tab === name);
  if (name === "pack") showPack();
  if (name === "duplicates" && !byId("duplicates").childElementCount) showDuplicates();
  history.replaceState(null, "", `#${name}`);
}

async function showAll() {
  const found = await tried(() => read("overview"));
  if (!found) return;
  byId("trigger").textContent = found.trigger;
  byId("banner").textContent = found.banner;
  byId("banner").hidden = !found.banner;
  fill(byId("forewarnings"), found.forewarnings.map((text) => element("li", {}, text)));
  byId("forewarnings").hidden = !found.forewarnings.length;
  setGroups(found);
  showTraining(found);
  showComparison(found);
  showGate(found);
  showReleases(found, refresh);
  showSettings(found);
}

async function refresh() {
  await tried(reloadImages);
  await showAll();
  if (!byId("pack").hidden) await showPack();
}

async function follow() {
  const run = await tried(() => read("run"));
  const active = Boolean(run?.active);
  if (last && !active) await refresh();
  last = active;
  byId("update").hidden = active;
  byId("update").disabled = false;
  fill(byId("run"), run ? runParts(run) : []);
  setTimeout(follow, active ? OFTEN : SELDOM);
}

function runParts(run) {
  const link = element("a", { href: `/runs/${run.id}` }, run.text);
  if (!run.active) return [link];
  const bar = element("progress", run.share === null ? {} : { max: 1, value: run.share });
  const cancel = element("button", { className: "edit", onclick: () => tried(() => write("cancel")).then(() => say("The run is asked to stop; it saves its state.")) }, "Cancel");
  return [bar, link, cancel];
}

byId("update").addEventListener("click", async () => {
  byId("update").disabled = true;
  if ((await tried(() => write("update"))) === undefined) byId("update").disabled = false;
  else say("The update has begun.");
  await follow();
});
byId("undo").addEventListener("click", async () => {
  const done = await tried(() => write("undo"));
  if (done) say(done.problems.length ? done.problems.join(" ") : "Undone.", done.problems.length > 0);
  await refresh();
});
for (const button of document.querySelectorAll("[data-tab]")) button.addEventListener("click", () => tab(button.dataset.tab));
startSettings(refresh);
startImages(JSON.parse(byId("first").textContent), refresh);
const names = [...document.querySelectorAll("[data-tab]")].map((button) => button.dataset.tab);
tab(names.includes(location.hash.slice(1)) ? location.hash.slice(1) : "images");
body.dataset.ready = "yes";
showAll();
follow();

// The wall of images: filter, selection, captions, and the panel of one image.
import { ask, byId, counted, element, fill, frameImage, percent, picture, read, readOnly, say, tried, write } from "./dom.js";
import { Grid } from "./grid.js";
import { changeSettings } from "./settings.js";

const WAIT = 120; // milliseconds after the last key
const drafts = new Map(); // image -> caption that is not saved
let grid, refresh, opened;

export function startImages(first, refreshAll) {
  refresh = refreshAll;
  grid = new Grid(open, actions);
  const form = byId("filter");
  if (first) begin(first);
  else tried(async () => begin(await read("frames", { count: 120 })));
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => tried(filter), WAIT);
    tried(suggest);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.tags.addEventListener("focus", () => tried(suggest));
  form.elements.tags.addEventListener("keydown", pick);
  form.elements.tags.addEventListener("blur", () => setTimeout(() => (byId("suggestions").hidden = true), 200));
  document.addEventListener("keydown", shortcut);
  addEventListener("beforeunload", (event) => drafts.size && event.preventDefault());
  if (!location.hash || location.hash === "#images") byId("grid").focus();
}

function begin(first) {
  grid.show(query(), first);
  counts(first);
}

export function setGroups({ groups, settings }) {
  byId("ignored").hidden = settings["curation.written"] === "keep";
  const select = byId("filter").elements.group;
  if (select.options.length === 1) {
    for (const group of groups) select.append(element("option", { value: group.name }, group.name));
  }
  grid.excluded = new Set(settings["media.exclude"]);
  grid.mark();
}

export async function reloadImages() {
  counts(await grid.reload());
  if (opened) await open(opened);
}

const query = () => Object.fromEntries(new FormData(byId("filter")).entries());

async function filter() {
  const wanted = query();
  if (JSON.stringify(wanted) === JSON.stringify(grid.query)) return;
  grid.select(false);
  counts(await grid.reload(wanted));
}

function counts(found) {
  const waiting = found.pending.length ? ` · ${counted(found.pending.length, "caption")} for the next update` : "";
  byId("count").textContent = `${found.total.toLocaleString("en")} of ${found.all.toLocaleString("en")}${waiting}`;
  const select = byId("filter").elements.state, chosen = select.value;
  const states = Object.entries(found.counts).map(([state, number]) => element("option", { value: state }, `${state} (${number.toLocaleString("en")})`));
  fill(select, element("option", { value: "" }, "all"), states);
  select.value = chosen in found.counts ? chosen : "";
  byId("undo").hidden = !found.undo;
  byId("empty").hidden = found.all > 0;
}

// Suggestions for the last term of the tags' filter, by frequency among what the filter shows.
async function suggest() {
  const input = byId("filter").elements.tags, list = byId("suggestions");
  if (document.activeElement !== input) return;
  const terms = input.value.split(","), last = terms.pop().trim().replace(/^-/, "");
  const found = await read("tags", { ...query(), tags: terms.join(","), q: last });
  fill(
    list,
    found.slice(0, 12).map(([tag, count]) =>
      element("li", {}, element("button", { type: "button", onmousedown: (event) => { event.preventDefault(); take(tag); } }, tag, element("span", {}, count.toLocaleString("en")))),
    ),
  );
  list.hidden = !found.length;
}

function take(tag) {
  const input = byId("filter").elements.tags, terms = input.value.split(","), last = terms.pop().trim();
  input.value = [...terms, ` ${last.startsWith("-") ? "-" : ""}${tag}`].join(",").trim() + ", ";
  byId("suggestions").hidden = true;
  tried(filter);
  input.focus();
}

function pick(event) {
  const list = byId("suggestions"), buttons = [...list.querySelectorAll("button")];
  if (event.key === "Escape") list.hidden = true;
  if (list.hidden || !buttons.length || !["ArrowDown", "ArrowUp", "Enter"].includes(event.key)) return;
  const now = buttons.findIndex((button) => button.classList.contains("focused"));
  if (event.key === "Enter" && now < 0) return;
  event.preventDefault();
  if (event.key === "Enter") return take(buttons[now].firstChild.textContent);
  const next = (now + (event.key === "ArrowDown" ? 1 : buttons.length - 1)) % buttons.length;
  buttons.forEach((button, place) => button.classList.toggle("focused", place === next));
}

function shortcut(event) {
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = {
    "/": () => byId("filter").elements.tags.focus(),
    e: () => byId("caption")?.focus(),
    x: () => exclude(),
    u: () => byId("undo").click(),
    Escape: () => (grid.count() ? grid.select(false) : close()),
  }[event.key];
  if (!act || (byId("images").hidden && event.key !== "u")) return;
  event.preventDefault();
  act();
}

function actions() {
  const count = grid.count(), place = byId("actions");
  place.hidden = !count || readOnly;
  if (!count) return;
  const files = counted(count, "image");
  fill(
    place,
    element("strong", {}, `${files} selected`),
    element("button", { onclick: () => tags("add", `Add tags to the captions of ${files}`, "Tags, separated by commas") }, "Add tags"),
    element("button", { onclick: () => tags("remove", `Remove tags from the captions of ${files}`, "Tags, separated by commas") }, "Remove tags"),
    element("button", { onclick: () => tags("replace", `Replace a tag in the captions of ${files}`, "Tag", "New tag") }, "Replace a tag"),
    element("button", { onclick: () => exclude() }, "Exclude files"),
    element("button", { onclick: () => grid.select(true) }, `Select all ${grid.total.toLocaleString("en")}`),
    element("button", { onclick: () => grid.select(false) }, "Clear"),
  );
}

// Asks for tags, shows what would be written, writes it.
async function tags(action, title, first, second) {
  const field = (label, name) => element("label", {}, label, " ", element("input", { name, list: "known", autocomplete: "off" }));
  const known = await tried(() => read("tags", { q: "" }));
  const options = element("datalist", { id: "known" }, (known ?? []).map(([tag]) => element("option", { value: tag })));
  const form = element("div", {}, field(first, "text"), second ? field(second, "by") : null, options);
  if (!(await ask(title, form, "Show the change"))) return;
  const value = (name) => form.querySelector(`[name=${name}]`)?.value ?? "";
  await captions({ ...grid.selection(), do: action, text: value("text"), by: value("by") });
}

async function captions(change) {
  const shown = await tried(() => write("captions", { ...change, preview: true }));
  if (!shown) return;
  if (!shown.files) return say(shown.problems[0] ?? "No caption would change.");
  const examples = shown.examples.map((one) =>
    element("div", { className: "example" }, element("code", {}, one.file), element("del", {}, one.before || "(no text: the tagger's tags)"), element("ins", {}, one.after)),
  );
  const more = shown.files > examples.length ? element("p", {}, `and ${shown.files - examples.length} more`) : null;
  const content = [element("p", {}, `${counted(shown.files, "text")} beside images will be written. A text replaces the tagger's tags.`), ...examples, more, ...problems(shown)];
  if (!(await ask("Write these captions?", content, "Write"))) return;
  say(`Writing ${counted(shown.files, "caption")} …`);
  const done = await tried(() => write("captions", { ...change, seen: shown.digest }));
  if (done) await after(done, counted(done.made, "caption"));
}

async function after(done, what) {
  if (!done.made && !done.problems.length) return say("Nothing to write: the caption is so already.");
  if (done.problems.length) say(`${what} written. Not written: ${done.problems.slice(0, 3).join(" ")}`, true);
  else say(`${what} written. The next update uses it. u undoes it.`);
  await refresh();
}

const problems = (shown) => shown.problems.map((text) => element("p", { className: "error" }, text));

async function exclude(chosen) {
  const paths = chosen ?? (await tried(selectedPaths));
  if (readOnly || !paths?.length) return;
  if (await changeSettings([{ do: "add", key: "media.exclude", value: paths }], "Exclude from the next update?")) await refresh();
}

async function selectedPaths() {
  if (grid.allSelected) {
    const kept = new Set(grid.selected.values());
    return (await read("paths", grid.query)).filter((path) => !kept.has(path));
  }
  if (!grid.count()) return opened ? [opened.path] : [];
  return [...new Set(grid.selected.values())];
}

function close() {
  opened = undefined;
  byId("detail").hidden = true;
  byId("grid").focus();
}

// Shows one image with its caption, the frames of its file and the tags that were left out.
async function open(row) {
  opened = row;
  grid.mark();
  const panel = byId("detail");
  panel.hidden = false;
  if (panel.dataset.path !== row.path) fill(panel, element("h2", {}, row.path)); // nothing of the image before stays
  panel.dataset.path = row.path;
  const file = await tried(() => read("file", { path: row.path }));
  if (!file || opened !== row) return;
  row = opened = file.frames.find((frame) => frame.frame_id === row.frame_id) ?? row;
  const text = element("textarea", { id: "caption", value: drafts.get(row.path) ?? file.caption, rows: 5, readOnly });
  text.addEventListener("input", () => (text.value === file.caption ? drafts.delete(row.path) : drafts.set(row.path, text.value)));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    if (event.key === "Escape") byId("grid").focus();
  });
  const save = async () => {
    const change = { path: row.path, do: "set", text: text.value, expected: { [row.path]: file.caption } };
    const done = await tried(() => write("captions", change));
    if (!done) return open(row); // shows the caption on the disk beside the text that is not saved
    drafts.delete(row.path);
    await after(done, counted(done.made, "caption"));
  };
  fill(
    panel,
    element("button", { className: "close", onclick: close, ariaLabel: "Close" }, "×"),
    row.frame_id ? picture(frameImage(row, true), frameImage(row, true), row.path) : null,
    element("h2", {}, row.path),
    element("p", {}, `${row.state}${row.reason ? `: ${row.reason}` : ""}${row.weight ? ` · ${percent(row.weight)} of the samples` : ""}${row.width ? ` · ${row.width}×${row.height}` : ""}`),
    row.file ? caption(text, file, save) : null,
    row.file && !readOnly ? element("button", { onclick: () => exclude([row.path]) }, "Exclude this file") : null,
    row.frame_id ? uses(row.path) : null,
    file.frames.length > 1 ? strip(file) : null,
    file.dropped.length ? leftOut(file.dropped) : null,
  );
}

function caption(text, file, save) {
  const about = file.written ? `Caption of ${file.caption_file}` : `From the tagger. Saving writes ${file.caption_file}`;
  const all = file.frames.length > 1 ? `, for all ${file.frames.length} frames of the file` : "";
  const shared = file.shared.length ? element("p", {}, `The same text is of ${file.shared.join(", ")}.`) : null;
  const unsaved = drafts.has(file.path) ? element("p", { className: "error" }, `Not saved. On the disk: ${file.caption}`) : null;
  return element("div", { className: "caption-edit" }, element("label", {}, `${about}${all}`, text), unsaved, shared, readOnly ? null : element("button", { className: "primary", onclick: save }, "Save caption"));
}

// Says which releases were made of the file, when asked.
function uses(path) {
  const place = element("p", {});
  const show = async () => {
    const found = await tried(() => read("uses", { path }));
    if (!found) return;
    const named = found.map((use) => `${use.character}, release ${use.number}${use.is_current ? " (current)" : ""}: ${use.split}${use.weight ? `, ${percent(use.weight)} of the samples` : ""}`);
    fill(place, named.length ? named.map((text) => element("span", { className: "line" }, text)) : "No release was made of it.");
  };
  return fill(place, element("button", { onclick: show }, "Which releases were made of it?"));
}

function strip(file) {
  return element("div", {}, element("h3", {}, counted(file.frames.length, "frame")), element("div", { className: "strip" }, file.frames.map((row) => element("img", { src: frameImage(row), alt: `frame ${row.frame_index}`, title: row.reason || row.state, loading: "lazy", className: row.file ? "" : "dropped", onclick: () => open(row) }))));
}

function leftOut(dropped) {
  const rows = dropped.map((one) => element("tr", {}, element("td", {}, one.tag), element("td", {}, one.reason)));
  return element("details", {}, element("summary", {}, `${counted(dropped.length, "tag")} left out of the caption`), element("table", {}, element("tbody", {}, rows)));
}

// Duplicates, training, comparison, gate and releases.
import { artifactImage, ask, byId, element, fill, frameImage, percent, picture, read, readOnly, say, tried, write } from "./dom.js";

const sample = (asset, file, alt) => picture(artifactImage(asset, file), artifactImage(asset, file, true), alt);
const note = (text) => element("p", { className: "note" }, text);

export async function showDuplicates(start = 0) {
  const found = await tried(() => read("duplicates", { start }));
  if (!found) return;
  const groups = found.groups.map(({ kept, dropped }) =>
    element("div", { className: "duplicate" }, figure(kept, "kept"), dropped.map((row) => figure(row, row.reason))),
  );
  const place = byId("duplicates"), next = start + found.groups.length;
  if (!start) fill(place, found.total ? note(`${found.total.toLocaleString("en")} frames stand for others that show the same image.`) : note("No frame is a duplicate of another."));
  place.querySelector(".more")?.remove();
  place.append(...groups);
  if (next < found.total) place.append(element("button", { className: "more", onclick: () => showDuplicates(next) }, "Show more"));
}

function figure(row, text) {
  return element("figure", {}, picture(frameImage(row), frameImage(row, true), row.path), element("figcaption", {}, element("b", {}, `${row.path}, frame ${row.frame_index}`), " ", text));
}

export function showTraining(found) {
  const rows = found.epochs.map((epoch) =>
    element("tr", { className: epoch.chosen ? "chosen" : "" }, element("th", {}, `epoch ${epoch.epoch}`), element("td", {}, element("div", { className: "strip large" }, epoch.images.map((file) => sample("lora", file, `epoch ${epoch.epoch}`))), element("p", {}, epoch.chosen ? `Chosen. ${epoch.reason}` : epoch.reason))),
  );
  fill(byId("training"), rows.length ? element("table", { className: "epochs" }, element("tbody", {}, rows)) : note("No LoRA is trained yet."));
}

export function showComparison(found) {
  const tables = found.comparison.flatMap((medium) => {
    const heads = medium.prompts.map((prompt) => element("th", {}, prompt));
    const rows = medium.models.map((model) => element("tr", {}, element("th", {}, model.model), model.images.map((file, place) => element("td", {}, file ? sample("samples", file, `${model.model}: ${medium.prompts[place]}`) : ""))));
    const held = found.references.find((one) => one.medium === medium.medium);
    const strip = held ? element("div", { className: "strip large" }, held.frames.map((row) => picture(frameImage(row), frameImage(row, true), `held out: ${row.path}`))) : null;
    return [element("h2", {}, medium.medium), strip ? element("h3", {}, "Held-out images") : null, strip, element("div", { className: "scroll" }, element("table", { className: "comparison" }, element("thead", {}, element("tr", {}, element("td", {}), heads)), element("tbody", {}, rows)))];
  });
  fill(byId("compare"), tables.length ? tables : note("No images are generated yet."), metrics(found.metrics));
}

function metrics(rows) {
  if (!rows.length) return null;
  const models = [...new Set(rows.flatMap((row) => Object.keys(row.models)))];
  const value = (found) => (found?.[0] === undefined || found[0] === null ? "–" : found[0].toFixed(3) + (found[1] === null ? "" : ` (${found[1].toFixed(3)} to ${found[2].toFixed(3)})`));
  const body = rows.map((row) => element("tr", { title: row.meaning }, element("th", {}, row.title, row.better ? element("small", {}, ` ${row.better} is better`) : null), models.map((model) => element("td", {}, value(row.models[model])))));
  return element("div", { className: "scroll" }, element("h2", {}, "Metrics, with 95 % intervals"), element("table", { className: "metrics" }, element("thead", {}, element("tr", {}, element("td", {}), models.map((model) => element("th", {}, model)))), element("tbody", {}, body)));
}

export function showGate(found) {
  const mark = { true: "✓", false: "✗", null: "–" };
  const word = { true: "passed", false: "failed", null: "not checked yet" };
  const rows = found.gate.map((check) =>
    element("tr", { className: word[check.verdict].split(" ")[0] }, element("td", { ariaLabel: word[check.verdict] }, mark[check.verdict]), element("th", {}, check.name.replaceAll("_", " "), check.blocking ? element("small", {}, " decides on release") : null), element("td", {}, check.summary || word[check.verdict])),
  );
  fill(byId("gate"), found.problems.map((text) => element("p", { className: "error" }, text)), rows.length ? element("table", { className: "gate" }, element("tbody", {}, rows)) : note("Nothing is checked yet."));
}

export function showReleases(found, refresh) {
  const items = found.releases.map((release) =>
    element("li", { className: release.current ? "current" : "" }, element("b", {}, release.name), release.current ? element("span", { className: "chip" }, "current") : null, release.epoch ? ` epoch ${release.epoch}. ` : " ", release.reason, " ", element("button", { onclick: () => showFiles(release) }, "Files"), " ", release.current || readOnly ? null : element("button", { onclick: () => rollBack(release, refresh) }, "Make current")),
  );
  fill(byId("releases"), items.length ? element("ul", { className: "releases" }, items) : note("There is no release yet."));
}

async function showFiles(release) {
  const found = await tried(() => read("sources", { number: release.number }));
  if (!found) return;
  const heads = ["file", "split", "frames", "of the samples", "caption", "SHA-256"].map((text) => element("th", {}, text));
  const rows = found.files.map((one) => element("tr", {}, [one.path, one.split, one.frames, one.weight ? percent(one.weight) : "", one.caption, one.sha256.slice(0, 12)].map((text) => element("td", {}, String(text)))));
  const table = element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows)));
  await ask(`Files of ${release.name}`, found.why_not ? note(found.why_not) : table);
}

async function rollBack(release, refresh) {
  const reason = element("input", { name: "reason", autocomplete: "off" });
  const content = [element("p", {}, "Later releases are kept, and are not published again by themselves."), element("label", {}, "Reason ", reason)];
  if (!(await ask(`Make ${release.name} the current one?`, content, "Make current"))) return;
  const done = await tried(() => write("roll-back", { number: release.number, reason: reason.value }));
  if (done !== undefined) {
    say(`${release.name} is the current one.`);
    await refresh();
  }
}

// Changes of character.yaml: shown as a difference before they are written.
import { ask, byId, element, fill, percent, readOnly, say, tried, write } from "./dom.js";

let refresh;

export const startSettings = (refreshAll) => (refresh = refreshAll);

// Shows the difference, writes it when confirmed. Returns whether it was written.
export async function changeSettings(changes, title = "Write this to character.yaml?") {
  const shown = await tried(() => write("settings", { changes }));
  if (!shown) return false;
  if (!shown.difference.length) return say("character.yaml has it already.") ?? false;
  const lines = shown.difference.map((line) => element("span", { className: line.startsWith("+") ? "new" : line.startsWith("-") ? "old" : "" }, `${line}\n`));
  if (!(await ask(title, element("pre", { className: "difference" }, lines), "Write"))) return false;
  const done = await tried(() => write("settings", { changes, seen: shown.difference.join("\n") }));
  if (done) say("character.yaml is written. The next update uses it. u undoes it.");
  return Boolean(done);
}

const MOST_CHIPS = 200;
let shown;

async function change(...changes) {
  if (await changeSettings(changes)) await refresh();
  else showSettings(shown); // a field shows what is in the file
}

export function showSettings(found) {
  const { settings, groups } = (shown = found);
  fill(
    byId("settings"),
    list("Tags that are never written", "curation.blacklist", settings),
    map("Tags that replace others", "curation.aliases", settings, "tag", "new tag"),
    map("Weights of tags in captions", "curation.weights", settings, "tag", "1.2"),
    shares(groups),
    list("Prompts of the benchmark", "benchmark.prompts", settings),
    list("Files that are not used", "media.exclude", settings),
  );
}

function part(title, ...content) {
  return element("div", { className: "part" }, element("h2", {}, title), content);
}

function chip(text, remove) {
  return element("span", { className: "chip" }, text, readOnly ? null : element("button", { ariaLabel: `remove ${text}`, onclick: remove }, "×"));
}

function list(title, key, settings) {
  const input = element("input", { ariaLabel: `new: ${title}` });
  const add = (event) => {
    event.preventDefault();
    if (input.value.trim()) change({ do: "add", key, value: [input.value.trim()] });
  };
  const chips = settings[key].slice(0, MOST_CHIPS).map((value) => chip(value, () => change({ do: "remove", key, value: [value] })));
  if (settings[key].length > MOST_CHIPS) chips.push(`and ${(settings[key].length - MOST_CHIPS).toLocaleString("en")} more, in character.yaml`);
  return part(title, element("div", { className: "chips" }, chips.length ? chips : "none"), readOnly ? null : element("form", { onsubmit: add }, input, element("button", {}, "Add")));
}

function map(title, key, settings, first, second) {
  const [tag, value] = [first, second].map((placeholder) => element("input", { placeholder, ariaLabel: `${title}: ${placeholder}` }));
  const isNumber = key.endsWith("weights");
  const add = (event) => {
    event.preventDefault();
    if (isNumber && Number.isNaN(Number(value.value))) say(`${value.value} is no number: write it like 1.2.`, true);
    else if (tag.value.trim() && value.value.trim()) change({ do: "set", key, value: { [tag.value.trim()]: isNumber ? Number(value.value) : value.value.trim() } });
  };
  const chips = Object.entries(settings[key]).map(([name, content]) => chip(`${name} → ${content}`, () => change({ do: "remove", key, value: [name] })));
  return part(title, element("div", { className: "chips" }, chips.length ? chips : "none"), readOnly ? null : element("form", { onsubmit: add }, tag, value, element("button", {}, "Set")));
}

function shares(groups) {
  const rows = groups.map((group) => {
    const input = element("input", { type: "number", min: 0.01, step: 0.1, value: group.share, ariaLabel: `share of ${group.name}`, disabled: readOnly });
    input.addEventListener("change", () => change({ do: "set", key: `groups.${group.name}.share`, value: Number(input.value) }));
    return element("tr", {}, element("td", {}, group.name), element("td", {}, group.medium), element("td", {}, String(group.files)), element("td", {}, percent(group.weight)), element("td", {}, input));
  });
  const heads = ["group", "medium", "files", "of the samples", "share of a source"].map((text) => element("th", {}, text));
  return part("Groups", element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows))));
}

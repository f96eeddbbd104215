// The sticker pack: stickers in order, sets, failed checks, gaps, and rejected candidates with reasons.
import { artifactImage, byId, counted, element, fill, picture, read, root, tried } from "./dom.js";

const words = (name) => name.replaceAll("_", " ");
const note = (text) => element("p", { className: "note" }, text);
const heads = (...names) => element("thead", {}, element("tr", {}, names.map((name) => element("th", {}, name))));
const cells = (values) => element("tr", {}, values.map((value) => element("td", {}, value === null ? "" : typeof value === "number" ? String(Number(value.toFixed(3))) : String(value))));
const table = (head, rows) => element("div", { className: "scroll" }, element("table", {}, head, element("tbody", {}, rows)));
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export async function showPack() {
  const found = await tried(() => read("pack"));
  if (!found) return;
  fill(byId("pack"), found.missing ? note(found.missing) : parts(found));
}

function parts(found) {
  const failed = found.checks.filter((check) => !check.passed);
  const page = element("a", { href: `${root}/pack/${found.page}`, target: "_blank", rel: "noopener" }, "Choose other candidates, on the page of the pack");
  return [
    element("p", {}, page),
    found.gaps.length ? element("p", { className: "error gaps" }, `Gaps: ${found.gaps.map((gap) => `no ${words(gap.slot)}`).join(", ")}.`) : note("Every slot has a sticker."),
    element("h2", {}, counted(found.stickers.length, "sticker")),
    element("ol", { className: "stickers" }, found.stickers.map(sticker)),
    element("h2", {}, "Sets"),
    table(heads("platform", "kind", "stickers", "size", "folder"), found.sets.map((set) => cells([set.title, set.kind, set.stickers, size(set.bytes), set.set]))),
    element("h2", {}, "Checks"),
    note(`${found.checks.length - failed.length} of ${found.checks.length} passed.`),
    element("ul", { className: "checks" }, failed.map(check)),
    found.gaps.length ? [element("h2", {}, "Gaps"), table(heads("slot", "why"), found.gaps.map((gap) => cells([words(gap.slot), gap.why])))] : null,
    element("h2", {}, "Candidates that were not chosen"),
    found.rejected.length ? element("ul", { className: "rejected" }, found.rejected.map(rejected)) : note("All were chosen."),
    found.more_rejected ? note(`${counted(found.more_rejected, "further candidate")} on the page of the pack.`) : null,
  ].flat();
}

function image(one) {
  const alt = `${words(one.slot)}: ${one.candidate}`;
  return one.image ? picture(artifactImage("sticker_pack", one.image), artifactImage("sticker_pack", one.image, true), alt) : "not readable";
}

function origin(one) {
  return element("span", { className: "chip" }, one.origin);
}

function sticker(one) {
  const both = ["dark", "light"].map((chat) => element("div", { className: `chat ${chat}` }, image(one)));
  return element("li", {}, element("div", { className: "chats" }, both), element("p", {}, element("b", {}, words(one.slot)), " ", one.emoji.join(" "), " ", origin(one)), element("p", { className: "note" }, one.text));
}

function rejected(one) {
  return element("li", {}, element("div", { className: "chat dark" }, image(one)), element("div", {}, element("p", {}, element("b", {}, words(one.slot)), ` ${one.candidate} `, origin(one)), element("p", { className: "note" }, one.reason)));
}

function check(one) {
  const { columns, rows, all } = one.evidence;
  const evidence = rows.length ? element("details", {}, element("summary", {}, counted(all, "row") + " of evidence"), table(heads(...columns.map(words)), rows.map(cells)), all > rows.length ? note(`The first ${rows.length} are shown.`) : null) : null;
  return element("li", { className: one.error ? "error" : "" }, element("b", {}, words(one.name)), element("small", {}, ` ${one.meaning}`), element("p", {}, one.summary), evidence);
}

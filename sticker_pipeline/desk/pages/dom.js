// Elements, requests, messages and dialogs. Text of files is always set as text, never as HTML.
export const body = document.body;
export const root = body.dataset.root;
export const readOnly = body.classList.contains("read-only");
export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter(Boolean));
  return parent;
}

async function answer(response) {
  const type = response.headers.get("content-type") || "";
  const found = type.includes("json") ? await response.json() : { error: (await response.text()).trim() };
  if (!response.ok) throw Object.assign(new Error(found.error || `HTTP ${response.status}`), { status: response.status });
  return found;
}

export async function read(path, query = {}, signal = undefined) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  return answer(await fetch(`${root}/api/${path}?${new URLSearchParams(wanted)}`, { signal }));
}

export async function write(path, content = {}) {
  const headers = { "content-type": "application/json", "x-desk-token": body.dataset.token };
  return answer(await fetch(`${root}/api/${path}`, { method: "POST", headers, body: JSON.stringify(content) }));
}

let hiding;
export function say(text, isError = false) {
  const place = byId("message");
  place.textContent = text;
  place.classList.toggle("error", isError);
  place.hidden = false;
  clearTimeout(hiding);
  if (!isError) hiding = setTimeout(() => (place.hidden = true), 6000);
  place.onclick = () => (place.hidden = true);
}

// Runs an action; shows its error as a sentence.
export async function tried(action) {
  try {
    return await action();
  } catch (error) {
    const isGone = error instanceof TypeError && /fetch/i.test(error.message);
    if (error.name !== "AbortError") say(isGone ? "The desk does not answer: is it still running?" : error.message, true);
    return undefined;
  }
}

// Shows `content` with buttons; resolves to true for the first one.
export function ask(title, content, yes) {
  const dialog = byId("dialog");
  return new Promise((resolve) => {
    const close = (value) => () => (dialog.close(), resolve(value));
    fill(
      dialog,
      element("h2", {}, title),
      element("div", { className: "content" }, content),
      element("div", { className: "buttons" }, [
        yes ? element("button", { className: "primary", onclick: close(true) }, yes) : null,
        element("button", { onclick: close(false) }, yes ? "Cancel" : "Close"),
      ]),
    );
    dialog.oncancel = () => resolve(false);
    dialog.onkeydown = (event) => {
      if (event.key === "Enter" && event.target.matches("input") && yes) close(true)();
    };
    dialog.showModal();
    (dialog.querySelector("input, textarea") || dialog.querySelector("button")).focus();
  });
}

export const frameImage = (row, full = false) =>
  `${root}/frame/${encodeURIComponent(row.frame_id)}.${full ? "png" : "webp"}?v=${row.v}`;
export const artifactImage = (asset, file, full = false) =>
  `${root}/image/${asset}/${file.split("/").map(encodeURIComponent).join("/")}${full ? "?full" : ""}`;

export function picture(source, full, alt) {
  const image = element("img", { src: source, alt, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.classList.add("missing"));
  if (full) image.addEventListener("click", () => ask(alt, element("img", { src: full, alt, className: "full" })));
  return image;
}

export const percent = (value) => `${(100 * value).toLocaleString("en", { maximumSignificantDigits: 2 })} %`;
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

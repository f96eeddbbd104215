// The wall of images: only what is visible is in the page, and a bounded number of rows in memory.
import { byId, element, frameImage, percent, read, tried } from "./dom.js";

const PAGE = 120; // rows of one request
const MOST_PAGES = 25; // in memory
const WIDTH = 172, HEIGHT = 262; // pixels of a cell
const EXTRA = 2; // lines of cells beyond the visible ones

export class Grid {
  // `open(row)` is called for the cell that is opened, `changed()` when the selection changes.
  constructor(open, changed) {
    this.place = byId("grid");
    this.canvas = byId("canvas");
    this.open = open;
    this.changed = changed;
    this.pages = new Map();
    this.cells = new Map();
    this.selected = new Map(); // frame -> its file; with allSelected those that are not selected
    this.allSelected = false;
    this.pending = new Set();
    this.excluded = new Set();
    this.total = 0;
    this.focus = 0;
    this.query = {};
    this.place.addEventListener("scroll", () => this.draw(), { passive: true });
    this.place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  show(query, first) {
    this.query = query;
    this.pages.clear();
    this.place.scrollTop = 0;
    this.focus = 0;
    this.accept(0, first);
  }

  // Reads again, from the top if the filter is another.
  async reload(query = this.query) {
    const isNew = query !== this.query;
    this.query = query;
    this.asked?.abort();
    this.asked = new AbortController();
    const first = await read("frames", { ...query, start: 0, count: PAGE }, this.asked.signal);
    if (isNew) this.show(query, first);
    else {
      this.pages.clear();
      this.accept(0, first);
    }
    return first;
  }

  accept(page, found) {
    this.total = found.total;
    this.pending = new Set(found.pending);
    this.pages.set(page, found.rows);
    while (this.pages.size > MOST_PAGES) this.pages.delete(this.pages.keys().next().value);
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.draw();
    this.changed();
  }

  row(number) {
    return this.pages.get(Math.floor(number / PAGE))?.[number % PAGE];
  }

  async load(page) {
    if (this.pages.has(page) || this.loading?.has(page)) return;
    (this.loading ??= new Set()).add(page);
    const query = this.query;
    const found = await tried(() => read("frames", { ...query, start: page * PAGE, count: PAGE }));
    this.loading.delete(page);
    if (found && query === this.query) this.accept(page, found);
  }

  columns() {
    return Math.max(1, Math.floor(this.place.clientWidth / this.cellWidth()));
  }

  cellWidth() {
    return this.place.clientWidth < 500 ? Math.floor(this.place.clientWidth / 2) : WIDTH;
  }

  draw() {
    const columns = this.columns(), width = this.cellWidth();
    this.canvas.style.height = `${Math.ceil(this.total / columns) * HEIGHT}px`;
    const first = Math.max(0, Math.floor(this.place.scrollTop / HEIGHT) - EXTRA) * columns;
    const last = Math.min(this.total, (Math.ceil((this.place.scrollTop + this.place.clientHeight) / HEIGHT) + EXTRA) * columns);
    for (const [number, cell] of this.cells) {
      if (number < first || number >= last) {
        cell.remove();
        this.cells.delete(number);
      }
    }
    for (let number = first; number < last; number += 1) {
      if (!this.cells.has(number)) this.cells.set(number, this.canvas.appendChild(this.cell(number)));
      const style = this.cells.get(number).style;
      style.width = `${width - 8}px`;
      style.transform = `translate(${(number % columns) * width}px, ${Math.floor(number / columns) * HEIGHT}px)`;
    }
    for (let page = Math.floor(first / PAGE); page <= Math.floor((last - 1) / PAGE) && last; page += 1) this.load(page);
    this.mark();
  }

  cell(number) {
    const row = this.row(number);
    if (!row) return element("div", { className: "cell empty" });
    const badges = [element("span", { className: `state ${row.state}` }, row.state)];
    if (row.weight) badges.push(element("span", { title: "probability that a training sample is this frame" }, percent(row.weight)));
    const cell = element(
      "div",
      { className: "cell", role: "gridcell", title: row.path },
      row.frame_id
        ? element("img", { src: frameImage(row), alt: row.caption || row.path, decoding: "async", onerror: (event) => event.target.classList.add("missing") })
        : element("div", { className: "missing" }),
      element("input", { type: "checkbox", ariaLabel: `select ${row.path}`, tabIndex: -1, onclick: (event) => { event.stopPropagation(); this.toggle(number, event.shiftKey); } }),
      element("div", { className: "badges" }, badges),
      element("div", { className: "caption" }, row.caption || row.reason),
    );
    cell.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) this.toggle(number, event.shiftKey);
      else {
        this.focus = number;
        this.mark();
        this.open(row);
      }
    });
    return cell;
  }

  mark() {
    for (const [number, cell] of this.cells) {
      const row = this.row(number);
      if (!row) continue;
      const chosen = this.isSelected(row);
      cell.classList.toggle("selected", chosen);
      cell.classList.toggle("focused", number === this.focus);
      cell.classList.toggle("pending", this.pending.has(row.path));
      cell.classList.toggle("excluded", this.excluded.has(row.path));
      const box = cell.querySelector("input");
      if (box) box.checked = chosen;
    }
  }

  isSelected(row) {
    return this.allSelected !== this.selected.has(row.frame_id);
  }

  count() {
    return this.allSelected ? this.total - this.selected.size : this.selected.size;
  }

  // Selects or clears one cell, or with `range` all from the cell before as that one is.
  async toggle(number, range = false) {
    const row = this.row(number);
    if (!row?.frame_id) return;
    if (range && this.anchor !== undefined) {
      const [first, last] = [Math.min(this.anchor, number), Math.max(this.anchor, number)];
      const found = await tried(() => read("ids", { ...this.query, start: first, count: last - first + 1 }));
      for (const [id, path] of found ?? []) {
        if (id && this.isSelected({ frame_id: id }) !== this.want) this.flip({ frame_id: id, path });
      }
    } else {
      this.flip(row);
      this.anchor = number;
      this.want = this.isSelected(row);
    }
    this.focus = number;
    this.mark();
    this.changed();
  }

  flip(row) {
    if (!this.selected.delete(row.frame_id)) this.selected.set(row.frame_id, row.path);
  }

  select(all) {
    this.anchor = undefined;
    this.selected.clear();
    this.allSelected = all;
    this.mark();
    this.changed();
  }

  // The selection as the server takes it: ids, or the filter without the ids that were taken out.
  selection() {
    return this.allSelected ? { filter: this.query, without: [...this.selected.keys()] } : { frames: [...this.selected.keys()] };
  }

  key(event) {
    const columns = this.columns();
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: 4 * columns, PageUp: -4 * columns }[event.key];
    if (step) {
      event.preventDefault();
      const before = this.focus;
      this.focus = Math.min(Math.max(0, this.focus + step), Math.max(0, this.total - 1));
      if (event.shiftKey) {
        if (this.anchor === undefined) this.toggle(before);
        this.toggle(this.focus, true);
      }
      this.reveal();
      if (!byId("detail").hidden && this.row(this.focus)) this.open(this.row(this.focus));
    } else if (event.key === " ") {
      event.preventDefault();
      this.toggle(this.focus);
    } else if (event.key === "Enter" && this.row(this.focus)) this.open(this.row(this.focus));
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.select(true);
    }
  }

  reveal() {
    const top = Math.floor(this.focus / this.columns()) * HEIGHT, place = this.place;
    if (top < place.scrollTop) place.scrollTop = top;
    else if (top + HEIGHT > place.scrollTop + place.clientHeight) place.scrollTop = top + HEIGHT - place.clientHeight;
    this.draw();
  }
}

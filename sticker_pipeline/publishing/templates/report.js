"use strict";
// What the page can do without this is everything but searching, sorting and enlarging.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const list = document.getElementById("characters");
  const board = document.getElementById("board");
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const found = document.getElementById("found");
  const collator = new Intl.Collator("en", { numeric: true });

  // Numbers go before nothing at all, whichever way they are sorted.
  const compare = (a, b, numbers, sign) => {
    if (!numbers) return sign * collator.compare(a, b);
    const [x, y] = [a, b].map((text) => (text === "" || text === "nan" ? NaN : Number(text)));
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const shown = new Set();
    for (const item of list.children) {
      const fits = words.every((word) => item.dataset.text.toLowerCase().includes(word));
      item.hidden = !fits;
      if (fits) shown.add(item.dataset.for);
    }
    for (const part of all("article.character")) part.hidden = !shown.has(part.id);
    for (const row of all("#board tbody tr")) row.hidden = !shown.has(row.dataset.for);
    found.textContent = search.value ? `${shown.size} of ${list.children.length} characters` : "";
  };

  const sortIndex = () => {
    const key = order.value;
    const items = [...list.children].sort(
      (a, b) => (key === "name" ? 0 : compare(a.dataset[key], b.dataset[key], true, -1)) || compare(a.dataset.name, b.dataset.name, false, 1),
    );
    list.append(...items);
    const main = document.getElementById("main");
    main.append(...items.map((item) => document.getElementById(item.dataset.for)));
  };

  const sortBoard = (head, column) => {
    const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && head.dataset.sort === "text");
    for (const other of all("th[aria-sort]", board)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.children[column].dataset.value;
    const rows = all("tbody tr", board);
    rows.sort((a, b) => compare(value(a), value(b), head.dataset.sort === "number", up ? 1 : -1));
    board.tBodies[0].append(...rows);
  };

  if (board) {
    all("thead th", board).forEach((head, column) => {
      if (!head.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBoard(head, column));
      head.append(button);
    });
  }

  // One prompt with all models side by side, larger: a click on a picture, arrow keys to the next prompt.
  const closer = document.getElementById("closer");
  let table = null;
  let place = 0;
  const show = () => {
    document.getElementById("closer-prompt").textContent = table.tHead.rows[0].cells[place].textContent;
    const parts = [...table.tBodies[0].rows].filter((row) => row.cells[place].querySelector("img")).map((row) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.append(...[...row.cells[0].firstElementChild.cloneNode(true).childNodes]);
      caption.className = row.className;
      figure.append(row.cells[place].querySelector("img").cloneNode(), caption);
      return figure;
    });
    document.getElementById("closer-pictures").replaceChildren(...parts);
  };
  for (const image of all("table.grid img")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.setAttribute("aria-label", `enlarge: ${image.alt}`);
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      table = button.closest("table");
      place = button.closest("td").cellIndex;
      show();
      closer.showModal();
    });
  }
  closer.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const most = table.tHead.rows[0].cells.length - 1;
    place = ((place - 1 + step + most) % most) + 1;
    show();
  });
  closer.addEventListener("click", (event) => event.target === closer && closer.close());

  search.addEventListener("input", filter);
  order.addEventListener("change", sortIndex);
  all(".finder").forEach((part) => (part.hidden = false));
})();

"use strict";
// Searching and sorting; the rest of the index works without JavaScript.
(() => {
  const board = document.getElementById("board");
  if (!board) return;
  const rows = [...board.tBodies[0].rows];
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const collator = new Intl.Collator("en", { numeric: true });
  const text = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const texts = new Map(rows.map((row) => [row, `${row.dataset.text ?? ""} ${row.textContent}`.toLowerCase()]));

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row).includes(word));
      shown += !row.hidden;
    }
    found.textContent = search.value ? `${shown} of ${rows.length} characters` : "";
  };

  // Empty cells are last in both orders.
  const compareNumbers = (a, b, sign) => {
    const [x, y] = [a, b].map((cell) => parseFloat(text(cell).replace("−", "-")));
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
  const compareTexts = (a, b, sign) => sign * collator.compare(text(a), text(b));

  const sort = (head, column) => {
    const words = head.dataset.sort === "text";
    const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && words);
    for (const other of board.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const compare = words ? compareTexts : compareNumbers;
    rows.sort((a, b) => compare(a.cells[column], b.cells[column], up ? 1 : -1));
    board.tBodies[0].append(...rows);
  };

  [...board.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
  search.addEventListener("input", filter);
  document.querySelector(".finder").hidden = false;
})();

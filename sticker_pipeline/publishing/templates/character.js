"use strict";
// Dialog: one prompt, all models, enlarged. A click on an image opens it; arrow keys change the prompt.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
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
    document.getElementById("closer-images").replaceChildren(...parts);
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
})();

// Searches the list of characters.
const search = document.getElementById("search");
const items = [...document.querySelectorAll("#characters li")];
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  for (const item of items) item.hidden = !item.dataset.name.includes(wanted);
});
for (const image of document.querySelectorAll("#characters img")) {
  image.addEventListener("error", () => image.classList.add("missing"));
}

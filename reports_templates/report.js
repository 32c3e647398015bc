"use strict";
// Sorts and searches the tables of the appendix. Without it, the page shows the same.
const number = (text) => parseFloat(text.replace(/[,\s]/g, "").replace("−", "-"));
const order = (first, second) => {
  const [x, y] = [number(first), number(second)];
  if (Number.isNaN(x) || Number.isNaN(y)) return first.localeCompare(second, "en", { numeric: true });
  return x - y;
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("text") ? "ascending" : "descending";
      const opposite = { ascending: "descending", descending: "ascending" };
      const direction = opposite[head.getAttribute("aria-sort")] || first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      rows.sort((a, b) => sign * order(a.cells[i].textContent.trim(), b.cells[i].textContent.trim()));
      table.tBodies[0].append(...rows);
    });
  });
}

for (const search of document.querySelectorAll(".search")) {
  const input = search.querySelector("input");
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const found = search.querySelector("output");
  search.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().trim();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words);
    const count = rows.filter((row) => !row.hidden).length;
    found.textContent = words ? `${count} of ${rows.length}` : "";
  });
}

document.addEventListener("keydown", (event) => {
  const input = document.querySelector("details[open] .search input");
  if (event.key !== "/" || !input || event.target.closest("input")) return;
  event.preventDefault();
  input.focus();
});

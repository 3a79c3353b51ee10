"use strict";
// A table that would not fit is stacked: a block for every row, each number behind the
// head of its column. No number is cut, and nothing scrolls sideways.
(() => {
  const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
  const name = (table) => { // stacked, its elements are no table to a browser
    const heads = [...table.querySelectorAll("thead th")].map((x) => x.textContent.trim());
    for (const x of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")]) {
      x.setAttribute("role", roles[x.tagName] ?? (x.scope === "col" ? "columnheader" : "rowheader"));
      if (x.cellIndex !== undefined && x.closest("tbody")) x.dataset.label = heads[x.cellIndex] ?? "";
    }
  };
  const fit = () => {
    for (const place of document.querySelectorAll(".fitted")) {
      const table = place.querySelector("table");
      table.classList.remove("stacked");
      if (table.scrollWidth <= place.clientWidth) continue;
      name(table);
      table.classList.add("stacked");
    }
  };
  const watch = new ResizeObserver(fit);
  watch.observe(document.documentElement);
  document.addEventListener("toggle", fit, true); // what was folded had no width
  document.addEventListener("refilled", fit);
  fit();
})();

// A report's page: its table is sorted and filtered, its contents say where one is.  Without scripts the page reads as well.
"use strict";
{
  const table = document.getElementById("table"), rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  const sought = document.getElementById("filter"), count = document.getElementById("count");

  // ------------------------------------------------------------------------------------------ sorting

  /** A cell's number, else its text; null for a dash. */
  const keyOf = (cell) => cell.dataset.number ? Number(cell.dataset.number) : cell.textContent === "–" ? null : cell.textContent;

  /** Numbers by their size and before words; dashes last, whichever way (1 or -1). */
  const compare = (a, b, way) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return way * (typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true}));
  };

  const sortBy = (head, column) => {
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const keyed = rows.map((row, place) => ({row, place, key: keyOf(row.cells[column])}));
    keyed.sort((a, b) => compare(a.key, b.key, way) || a.place - b.place);
    table.tBodies[0].append(...keyed.map(({row}) => row));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(head, column));
    head.replaceChildren(button);
  });

  // ------------------------------------------------------------------------------------------ filtering

  const texts = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));

  const filter = () => {
    const words = sought.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => texts.get(row).includes(word));
    const left = rows.filter((row) => !row.hidden).length, all = rows.length.toLocaleString("en");
    count.textContent = `${left === rows.length ? all : `${left.toLocaleString("en")} of ${all}`} run${rows.length === 1 ? "" : "s"}`;
  };

  document.getElementById("sought").hidden = false;
  sought.addEventListener("input", filter);
  filter();

  // ------------------------------------------------------------------------------------------ contents

  const links = new Map([...document.querySelectorAll("body > nav a")].map((link) => [link.hash.slice(1), link]));
  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries) inView[isIntersecting ? "add" : "delete"](target.id);
    const current = [...links.keys()].find((id) => inView.has(id));
    for (const [id, link] of links) link.toggleAttribute("aria-current", id === current);
  }, {rootMargin: "-10% 0px -60% 0px"});
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}

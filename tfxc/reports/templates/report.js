"use strict";
// The table of labels: any number of rows, of which a page at a time is in the document.
(() => {
  const PAGE = 100;
  const columns = JSON.parse(document.getElementById("label-data").textContent);
  if (!columns.length) return;
  const table = document.getElementById("labels");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const names = columns[0].map((name) => name.toLowerCase());
  const collator = new Intl.Collator(undefined, { numeric: true });
  const all = names.map((_, row) => row);
  let order = all, sorted = -1, ascending = true, shown = 0;

  function text(value) {
    if (typeof value === "string") return value;
    return Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(4);
  }

  function append() {
    const rows = document.createDocumentFragment();
    for (const row of order.slice(shown, shown + PAGE)) {
      const line = rows.appendChild(document.createElement("tr"));
      columns.forEach((column, place) => {
        const cell = line.appendChild(document.createElement("td"));
        // A share of exactly 0 or 1 is no count.
        cell.textContent = place > 4 ? column[row].toFixed(4) : text(column[row]);
        cell.className = place ? "number" : "";
        cell.dir = "auto";
      });
    }
    body.append(rows);
    shown = Math.min(order.length, shown + PAGE);
    more.hidden = shown === order.length;
  }

  function show() {
    const wanted = search.value.trim().toLowerCase();
    order = wanted ? all.filter((row) => names[row].includes(wanted)) : all.slice();
    if (sorted >= 0) {
      const column = columns[sorted], sign = ascending ? 1 : -1;
      const compare = sorted ? (a, b) => column[a] - column[b]
        : (a, b) => collator.compare(column[a], column[b]);
      order.sort((a, b) => sign * compare(a, b) || a - b);
    }
    count.textContent = `${order.length.toLocaleString("en")} of ${all.length.toLocaleString("en")}`;
    body.replaceChildren();
    shown = 0;
    append();
  }

  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      ascending = sorted === place ? !ascending : place === 0 || place > 4;
      sorted = place;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      show();
    });
  });
  search.addEventListener("input", show);
  more.addEventListener("click", append);
  document.getElementById("controls").hidden = false;
  show();

  // On paper nothing can be unfolded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
})();

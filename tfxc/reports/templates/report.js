"use strict";
(() => {
  function make(tag, text = "") {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  }

  // Buttons behind ``list`` that show a page of it at a time: ``show(first, last)`` does.
  function paged(list, size, show) {
    const pages = make("div"), back = make("button", "Previous"), on = make("button", "Next"), place = make("span");
    let count = 0, first = 0;
    pages.className = "pages";
    pages.setAttribute("role", "group");
    pages.setAttribute("aria-label", "Pages");
    place.setAttribute("aria-live", "polite");
    pages.append(back, on, place);
    list.after(pages);

    function go(to) {
      const last = Math.min(count, to + size);
      first = to;
      show(first, last);
      place.textContent = `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count.toLocaleString("en")}`;
      back.disabled = first === 0;
      on.disabled = last === count;
      pages.hidden = count <= size;
    }

    for (const [button, step] of [[back, -size], [on, size]]) {
      button.type = "button";
      button.addEventListener("click", () => {
        go(first + step);
        if (list.getBoundingClientRect().top < 0) list.scrollIntoView();
      });
    }
    return (number) => { count = number; go(0); };
  }

  // What is in the document as a whole, and readable without this script.
  for (const list of document.querySelectorAll("[data-page]")) {
    const items = [...list.children];
    const show = (first, last) => items.forEach((item, place) => { item.hidden = place < first || place >= last; });
    paged(list.closest(".wide") || list, Number(list.dataset.page), show)(items.length);
  }

  // On paper nothing can be unfolded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });

  // The table of labels: any number of rows, of which a page is in the document.
  const columns = JSON.parse(document.getElementById("label-data").textContent);
  if (!columns.length) return;
  const table = document.getElementById("labels");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const names = columns[0].map((name) => name.toLowerCase());
  const collator = new Intl.Collator(undefined, { numeric: true });
  const all = names.map((_, row) => row);
  let order = all, sorted = -1, ascending = true;

  function text(value) {
    if (typeof value === "string") return value;
    return Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(4);
  }

  const begin = paged(table.parentElement, body.rows.length, (first, last) => {
    body.replaceChildren(...order.slice(first, last).map((row) => {
      const line = make("tr");
      columns.forEach((column, place) => {
        // A share of exactly 0 or 1 is no count.
        const cell = make("td", place > 4 ? column[row].toFixed(4) : text(column[row]));
        cell.className = place ? "number" : "";
        cell.dir = "auto";
        line.append(cell);
      });
      return line;
    }));
  });

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
    begin(order.length);
  }

  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = make("button", head.textContent);
    button.type = "button";
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
  document.getElementById("controls").hidden = false;
  show();
})();

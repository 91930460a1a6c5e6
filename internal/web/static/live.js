// Pages are whole without this file. It makes them look again when something
// happens, and moves the focus in a matrix with the arrow keys.
"use strict";
(() => {
  const note = document.getElementById("live");
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };

  // The stream only says that there is news; htmx fetches what changed. At most
  // once a second, and always once after the last event.
  const address = document.body.dataset.events;
  if (address && window.EventSource && window.htmx) {
    const stream = new EventSource(address);
    let due = 0;
    const news = () => {
      due = due || setTimeout(() => { due = 0; htmx.trigger(document.body, "tick"); }, 1000);
    };
    stream.addEventListener("hello", () => { say("live"); news(); });
    stream.addEventListener("progress", news);
    stream.addEventListener("error", () => say("not live; trying again"));
    document.body.addEventListener("htmx:afterSettle", () => {
      if (document.querySelector("[data-over]")) {
        setTimeout(() => { htmx.trigger(document.body, "tick"); }, 500);
        stream.close();
        say("");
      }
    });
  }

  // What is open, scrolled or focused stays so when a part is replaced.
  let kept = null;
  const name = (e) => (e.closest("[id]") || {}).id + "/" + (e.getAttribute("aria-label") || (e.querySelector("summary") || e).textContent).trim();
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    kept = {
      open: new Map([...part.querySelectorAll("details")].map((d) => [name(d), d.open])),
      at: [...part.querySelectorAll(".scroll")].map((e) => [name(e), e.scrollLeft, e.scrollTop]),
      link: part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null,
    };
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (!kept) return;
    const part = document.getElementById(event.detail.target.id) || document.body;
    for (const d of part.querySelectorAll("details")) if (kept.open.has(name(d))) d.open = kept.open.get(name(d));
    for (const e of part.querySelectorAll(".scroll")) {
      const was = kept.at.find((a) => a[0] === name(e));
      if (was) { e.scrollLeft = was[1]; e.scrollTop = was[2]; }
    }
    if (kept.link) for (const a of part.querySelectorAll("a")) if (a.getAttribute("href") === kept.link) { a.focus(); break; }
    kept = null;
  });

  // The arrow keys go from cell to cell, past those without a link.
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  document.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    const cell = step && event.target.closest && event.target.closest("table.matrix tbody td, table.matrix tbody th");
    if (!cell || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const rows = cell.parentNode.parentNode.rows;
    for (let r = cell.parentNode.sectionRowIndex + step[0], c = cell.cellIndex + step[1]; rows[r] && rows[r].cells[c]; r += step[0], c += step[1]) {
      const link = rows[r].cells[c].querySelector("a");
      if (link) { link.focus(); event.preventDefault(); return; }
    }
  });

  // The column under the pointer, or with the focus; the row is style.
  let lit = [];
  const light = (event) => {
    for (const c of lit) c.classList.remove("lit");
    lit = [];
    const cell = event.target.closest && event.target.closest("table.matrix tbody td");
    if (cell) for (const row of cell.parentNode.parentNode.rows) { const c = row.cells[cell.cellIndex]; if (c) { c.classList.add("lit"); lit.push(c); } }
  };
  document.addEventListener("mouseover", light);
  document.addEventListener("focusin", light);
})();

"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, values = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), values);
    made.append(...children);
    return made;
  };
  const said = (element) => (element ? element.textContent.replace(/\s+/g, " ").trim() : "");

  const number = (text) => {
    const plain = text.replace(/^n = /, "").replaceAll("\u2212", "-").replaceAll(",", "").replace(/ ?%$/, "");
    const power = plain.match(/^(-?[\d.]+) \u00d7 10([\u207b\u2070-\u2079\u00b9\u00b2\u00b3]+)$/);
    const lowered = power ? [...power[2]].map((mark) => "-0123456789"["\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079".indexOf(mark)]).join("") : "";
    const value = power ? Number(`${power[1]}e${lowered}`) : Number(plain);
    return plain === "" ? NaN : value;
  };
  const isMissing = (text) => text === "" || text === "\u2013";
  const compare = (a, b, falling) => {
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    const [x, y] = [number(a), number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
    return falling ? -order : order;
  };
  const key = (cell) => {
    if (!cell || !cell.matches(".number")) return said(cell);
    const bare = cell.cloneNode(true);
    all(".aside", bare).forEach((aside) => aside.remove());
    return said(bare);
  };
  const sort = (header) => {
    const falling = header.getAttribute("aria-sort") === "ascending";
    const body = header.closest("table").tBodies[0];
    const rows = [...body.rows].map((row) => [key(row.cells[header.cellIndex]), row]);
    rows.sort(([a], [b]) => compare(a, b, falling));
    body.append(...rows.map(([, row]) => row));
    all("[aria-sort]", header.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  for (const table of all("table.plain, table.forest:not(.swarm), table.matrix")) {
    if (!table.tHead || !table.tBodies[0] || table.tBodies[0].rows.length < 3) continue;
    for (const header of table.tHead.rows[0].cells) {
      if (header.querySelector("a") || !said(header) || header.matches(".picture")) continue;
      header.replaceChildren(make("button", { type: "button", className: "sort" }, ...header.childNodes));
    }
    table.classList.add("sortable");
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".sort");
    if (button) sort(button.closest("th"));
  });

  let unfold = () => {};
  const reveal = () => {
    let id = "";
    try {
      id = decodeURIComponent(location.hash.slice(1));
    } catch {
      return;
    }
    const target = id && document.getElementById(id);
    if (!target) return;
    const hidden = target.closest("[hidden]");
    if (hidden) unfold();
    let closed = false;
    for (let part = target; part; part = part.parentElement) {
      if (part.tagName === "DETAILS" && !part.open) closed = part.open = true;
    }
    if (hidden || closed) target.scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) reveal();
  });
  addEventListener("hashchange", reveal);

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((part) => (part.open = false)));

  const articles = all(".finding");
  if (articles.length > 1) filters();
  reveal();

  function filters() {
    const section = articles[0].closest("section");
    let heading = "";
    const findings = [];
    const headings = new Map();
    for (const element of section.children) {
      if (element.matches(".pillar")) {
        heading = said(element);
        headings.set(heading, [element]);
      } else if (element.matches(".question") && headings.has(heading)) {
        headings.get(heading).push(element);
      } else if (element.matches(".finding")) {
        const groups = element.dataset.groups ? element.dataset.groups.split("\n") : [];
        findings.push({ element, of: [[said(element.querySelector(".meta .word"))], [heading], groups] });
      }
    }
    const choice = (name, at) => {
      const values = [...new Set(findings.flatMap((item) => item.of[at]))];
      if (at === 2) values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      const options = values.map((value) => make("option", { value }, value));
      const select = make("select", {}, make("option", { value: "" }, "All"), ...options);
      return { select, label: make("label", { hidden: !values.length }, name, select) };
    };
    const choices = ["Verdict", "Question", "Group"].map(choice);
    const words = make("input", { type: "search", autocomplete: "off" });
    const status = make("p", { role: "status" });
    const bar = make("div", { className: "filter", role: "search", ariaLabel: "Filter the findings" });
    bar.append(...choices.map((item) => item.label), make("label", {}, "Words", words), status);
    section.insertBefore(bar, headings.size ? [...headings.values()][0][0] : articles[0]);

    const holds = (item, wanted) => {
      item.text ??= said(item.element).toLowerCase();
      return wanted.every((word) => item.text.includes(word));
    };
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const seen = new Set();
      let shown = 0;
      for (const item of findings) {
        const fits = choices.every(({ select }, at) => !select.value || item.of[at].includes(select.value));
        item.element.hidden = !(fits && (!wanted.length || holds(item, wanted)));
        shown += !item.element.hidden;
        if (!item.element.hidden) seen.add(item.of[1][0]);
      }
      headings.forEach((elements, name) => elements.forEach((element) => (element.hidden = !seen.has(name))));
      const left = findings.length - shown;
      status.textContent = left ? `${shown} of ${findings.length} findings are shown; paper shows all of them.` : `All ${findings.length} findings are shown.`;
    };
    bar.addEventListener("input", filter);
    unfold = () => {
      choices.forEach(({ select }) => (select.value = ""));
      words.value = "";
      filter();
    };
    filter();
  }
})();

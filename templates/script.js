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
    const plain = text.replaceAll("\u2212", "-").replaceAll(",", "").replace(/ ?%$/, "");
    const power = plain.match(/^(-?[\d.]+) \u00d7 10\^(-?\d+)$/);
    const value = power ? Number(`${power[1]}e${power[2]}`) : Number(plain);
    return plain === "" ? NaN : value;
  };
  const isMissing = (text) => text === "" || text === "\u2013";
  const compare = (a, b, falling) => {
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    const [x, y] = [number(a), number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
    return falling ? -order : order;
  };
  const sort = (header) => {
    const falling = header.getAttribute("aria-sort") === "ascending";
    const body = header.closest("table").tBodies[0];
    const key = (row) => said(row.cells[header.cellIndex]);
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => compare(a, b, falling));
    body.append(...rows.map(([, row]) => row));
    all("[aria-sort]", header.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  for (const table of all("table.plain")) {
    if (!table.tHead || !table.tBodies[0] || table.tBodies[0].rows.length < 3) continue;
    for (const header of table.tHead.rows[0].cells) {
      if (header.querySelector("a") || !said(header)) continue;
      header.replaceChildren(make("button", { type: "button", className: "sort" }, ...header.childNodes));
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".sort");
    if (button) sort(button.closest("th"));
  });

  const articles = all(".finding");
  if (articles.length < 2) return;
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
      findings.push({ element, pillar: heading, verdict: said(element.querySelector(".meta .word")) });
    }
  }
  const choice = (name, values) => {
    const options = [...new Set(values)].map((value) => make("option", { value }, value));
    const select = make("select", {}, make("option", { value: "" }, "All"), ...options);
    return [select, make("label", {}, name, select)];
  };
  const [verdict, verdictLabel] = choice("Verdict", findings.map((item) => item.verdict));
  const [pillar, pillarLabel] = choice("Question", findings.map((item) => item.pillar));
  const words = make("input", { type: "search", autocomplete: "off" });
  const status = make("p", { role: "status" });
  const bar = make("div", { className: "filter", role: "search", ariaLabel: "Filter the findings" });
  bar.append(verdictLabel, pillarLabel, make("label", {}, "Words, such as a group", words), status);
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
      const fits = [verdict, pillar].every((select, at) => !select.value || select.value === [item.verdict, item.pillar][at]);
      item.element.hidden = !(fits && holds(item, wanted));
      shown += !item.element.hidden;
      if (!item.element.hidden) seen.add(item.pillar);
    }
    headings.forEach((elements, name) => elements.forEach((element) => (element.hidden = !seen.has(name))));
    const left = findings.length - shown;
    status.textContent = left ? `${shown} of ${findings.length} findings are shown; paper shows all of them.` : `All ${findings.length} findings are shown.`;
  };
  bar.addEventListener("input", filter);

  const reveal = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target || !target.closest("[hidden]")) return;
    verdict.value = pillar.value = words.value = "";
    filter();
    target.scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) reveal();
  });
  addEventListener("hashchange", reveal);
  filter();
})();

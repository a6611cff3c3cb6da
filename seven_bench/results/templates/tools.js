// ---- Points: what a chart's marks say, and the way to them by pointer and keyboard

const tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
document.body.append(tip);

function showTip(node) {
  const at = node.getBoundingClientRect();
  tip.textContent = node.words;
  tip.hidden = false;
  const width = tip.offsetWidth;
  tip.style.left = `${Math.max(6, Math.min(innerWidth - width - 6, at.left + at.width / 2 - width / 2))}px`;
  const above = at.top - tip.offsetHeight - 9;
  tip.style.top = `${above > 4 ? above : at.bottom + 9}px`;
}

const hideTip = () => { tip.hidden = true; };

// Words for whoever points at a mark.
function hint(node, words) {
  node.words = words;
  node.addEventListener("pointerenter", () => showTip(node));
  node.addEventListener("pointerleave", hideTip);
  return node;
}

// A mark that stands for a number: `facts` are its columns in the figure's CSV and LaTeX. One mark a
// chart is reached by Tab; the arrow keys go on to the nearest in their direction.
function point(node, words, facts, at, open) {
  hint(node, words);
  Object.assign(node, { facts, at });
  node.classList.add("point");
  for (const [name, value] of [["role", open ? "button" : "img"], ["aria-label", words], ["tabindex", -1]]) node.setAttribute(name, value);
  node.addEventListener("focus", () => showTip(node));
  node.addEventListener("blur", hideTip);
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (way) {
      event.preventDefault();
      nearest(node, way)?.focus();
    } else if (open && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      open();
    }
  });
  if (open) node.addEventListener("click", open);
  return node;
}

function nearest(node, [dx, dy]) {
  let best = null, least = Infinity;
  for (const other of node.ownerSVGElement.querySelectorAll(".point")) {
    const [x, y] = [other.at[0] - node.at[0], other.at[1] - node.at[1]];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (other === node || along < 0.01) continue;
    if (along + 3 * aside < least) [best, least] = [other, along + 3 * aside];
  }
  for (const other of node.ownerSVGElement.querySelectorAll(".point")) other.setAttribute("tabindex", other === (best ?? node) ? 0 : -1);
  return best;
}

// ---- Tables in another order

const numberIn = (cell) => {
  const mean = cell.querySelector("[data-mean]")?.dataset.mean;
  const text = mean ?? cell.textContent.trim().replace(/^< /, "").replaceAll("\u2212", "-").replaceAll(",", "");
  return text === "" || Number.isNaN(Number.parseFloat(text)) ? null : Number.parseFloat(text);
};

function movable(table) {
  const rows = [...table.tBodies[0]?.rows ?? []];
  const foot = rows.findIndex((row) => row.matches(".foot"));
  return rows.slice(0, foot < 0 ? rows.length : foot).filter((row) => !row.matches(".whole"));
}

function sortRows(table) {
  const [column, direction] = table.order;
  const rows = movable(table);
  if (!rows.length || rows.some((row) => row.cells.length <= column)) return;
  const values = new Map(rows.map((row) => [row, numberIn(row.cells[column])]));
  const words = new Map(rows.map((row) => [row, row.cells[column].textContent]));
  const numbers = [...values.values()].some((value) => value !== null);
  const sorted = [...rows].sort((a, b) => {
    if (!numbers) return direction * words.get(a).localeCompare(words.get(b));
    const [x, y] = [values.get(a), values.get(b)];
    return x === null || y === null ? (x === null) - (y === null) : direction * (x - y);
  });
  if (sorted.some((row, at) => row !== rows[at])) {
    const after = rows.reduce((last, row) => (last.compareDocumentPosition(row) & 4 ? row : last)).nextSibling;
    for (const row of sorted) table.tBodies[0].insertBefore(row, after);
  }
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const told = at === column ? (direction > 0 ? "ascending" : "descending") : null;
    if (head.getAttribute("aria-sort") === told) return;
    told ? head.setAttribute("aria-sort", told) : head.removeAttribute("aria-sort");
  });
}

function makeSortable(table) {
  if (table.matches(".grid") || table.tHead?.rows.length !== 1 || movable(table).length < 2) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.querySelector("button") || !head.textContent.trim() || head.matches(".forest-head")) return;
    head.replaceChildren(make("button", { class: "sort", type: "button", onclick() {
      const numbers = movable(table).some((row) => numberIn(row.cells[column]) !== null);
      const [last, direction] = table.order ?? [];
      table.order = [column, last === column ? -direction : numbers && column ? -1 : 1];
      sortRows(table);
    } }, ...head.childNodes));
  });
  if (table.order) sortRows(table);
}

// ---- Taking it along: made of what is shown, so that this one file is enough

function save(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const wordsOf = (node) => node.textContent.replace(/\s+/g, " ").trim();

// The rows of a table, heads first, as {text, best} a cell; whole rows have one cell for all columns.
function cellsOf(table) {
  const rows = [...table.rows].map((row) => [...row.cells].map((cell) => ({
    text: wordsOf(cell), best: cell.matches(".best"), span: cell.colSpan, ...cell.querySelector("[data-mean]")?.dataset })));
  const count = Math.max(...rows.map((row) => row.reduce((sum, cell) => sum + cell.span, 0)));
  const empty = [...Array(count).keys()].filter((column) => column && rows.slice(1).every((row) => row.length < count || !row[column].text));
  return rows.map((row) => (row.length < count ? row : row.filter((_, column) => !empty.includes(column))));
}

// A spreadsheet runs what begins with one of these; a number may begin with a sign.
const quoted = (value) => {
  let text = String(value ?? "");
  if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const toCsv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";

function tableToCsv(table) {
  const [heads, ...rows] = cellsOf(table);
  const exact = heads.map((_, column) => rows.some((row) => row[column]?.mean !== undefined));
  const wide = (row) => row.flatMap((cell) => Array(row.length < heads.length ? cell.span : 1).fill(cell));
  return toCsv([
    heads.flatMap((head, column) => (exact[column] ? [`${head.text} mean`, `${head.text} std`, `${head.text} n`] : [head.text])),
    ...rows.map((row) => wide(row).flatMap((cell, column) => (!exact[column] ? [cell.text === DASH ? "" : cell.text]
      : cell.mean === undefined ? [cell.text === DASH ? "" : cell.text, "", ""] : [cell.mean, cell.std, cell.n]))),
  ]);
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
  "\u00b1": "$\\pm$", "\u2212": "$-$", "\u00b7": "$\\cdot$", "\u2190": "$\\leftarrow$", "\u2192": "$\\rightarrow$", [DASH]: "--" };
for (const character of "&%$#_{}") LATEX[character] = `\\${character}`;
const toLatex = (text) => [...String(text)].map((character) => LATEX[character] ?? character).join("");

function latexTable(caption, heads, rows) {
  return ["% Needs \\usepackage{booktabs}.", "\\begin{table}", "\\centering", `\\caption{${toLatex(caption)}}`, `\\begin{tabular}{l${"r".repeat(heads.length - 1)}}`,
    "\\toprule", `${heads.join(" & ")} \\\\`, "\\midrule", ...rows.map((row) => `${row.join(" & ")} \\\\`), "\\bottomrule", "\\end{tabular}", "\\end{table}", ""].join("\n");
}

function tableToLatex(table, caption) {
  const [heads, ...rows] = cellsOf(table);
  const tell = (cell) => {
    const text = toLatex(cell.text);
    if (!cell.best) return text;
    const [mean, ...rest] = text.split(" ");
    return [`\\textbf{${mean}}`, ...rest].join(" ");
  };
  return latexTable(caption, heads.map((head) => toLatex(head.text)), rows.map((row) => row.map((cell) => (cell.span > 1 ? `\\multicolumn{${cell.span}}{c}{${tell(cell)}}` : tell(cell)))));
}

function factsOf(chart) {
  const facts = [...chart.querySelectorAll(".point")].map((node) => node.facts);
  const heads = distinct(facts.flatMap(Object.keys));
  return [heads, ...facts.map((fact) => heads.map((head) => fact[head] ?? ""))];
}

const rounded = (value) => (typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value);

function chartToLatex(chart, caption) {
  const [heads, ...rows] = factsOf(chart);
  return latexTable(caption, heads.map(toLatex), rows.map((row) => row.map((value) => toLatex(rounded(value)))));
}

const PAINTED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-family", "font-size", "font-weight", "paint-order"];

function chartToSvg(chart) {
  const drawn = chart.querySelector("svg");
  const copy = drawn.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [drawn, ...drawn.querySelectorAll("*")].forEach((node, at) => {
    const style = getComputedStyle(node);
    for (const name of PAINTED) copies[at].setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "role", "tabindex", "aria-label", "aria-roledescription"]) copies[at].removeAttribute(name);
  });
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ");
  for (const [name, value] of Object.entries({ width, height })) copy.setAttribute(name, value);
  copy.prepend(make("rect", { width, height, fill: getComputedStyle(document.body).backgroundColor }));
  return new XMLSerializer().serializeToString(copy);
}

function offerTools(host) {
  const chart = host.matches(".chart");
  if (!host.tools) {
    // what belongs to no choice of the page has a name of its own
    const title = host.dataset.title ?? host.closest("section").querySelector("h2").textContent;
    const whole = host.dataset.title ?? `${group.title} ${title}`;
    const words = () => (host.closest("figure") ?? host.closest("section")).querySelector("figcaption, .note") ?? host.closest("section").querySelector("h2");
    const about = () => `${host.dataset.title ?? group.title}. ${wordsOf(words())}`;
    const name = (end) => `${whole.replace(/[^A-Za-z0-9.]+/g, "_").replace(/^[_.]+|[_.]+$/g, "").slice(0, 120)}.${end}`;
    const kinds = [
      ...(chart ? [["SVG", () => save(name("svg"), "image/svg+xml", chartToSvg(host))]] : []),
      ["CSV", () => save(name("csv"), "text/csv", chart ? toCsv(factsOf(host)) : tableToCsv(host))],
      ["LaTeX", () => save(name("tex"), "text/x-tex", (chart ? chartToLatex : tableToLatex)(host, about()))],
    ];
    host.tools = make("div", { class: "tools", role: "group", "aria-label": `Save ${title} as` }, make("span", { "aria-hidden": "true" }, "Save as"),
      kinds.map(([words, take]) => make("button", { type: "button", onclick: take }, words)));
    (host.closest(".scroll") ?? host).after(host.tools);
  }
  const nothing = chart ? !host.querySelector(".point") : host.rows.length < 2;
  if (host.tools.hidden !== nothing) host.tools.hidden = nothing;
}

// What is drawn anew is dressed anew; dressing twice changes nothing.
function dress() {
  for (const host of document.querySelectorAll("main .chart, main table")) offerTools(host);
  for (const table of document.querySelectorAll("main table")) makeSortable(table);
  for (const chart of document.querySelectorAll("main .chart")) {
    const points = [...chart.querySelectorAll(".point")];
    if (points.length && !points.some((node) => node.getAttribute("tabindex") === "0")) points[0].setAttribute("tabindex", 0);
  }
}

new MutationObserver(dress).observe($("main"), { childList: true, subtree: true });

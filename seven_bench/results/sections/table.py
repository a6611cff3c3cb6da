"""The table, from which each number opens its runs."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
<section class="scripted" aria-labelledby="table-title">
  <h2 id="table-title">Table</h2>
  <div class="scroll" role="group" tabindex="0" aria-labelledby="table-title"><table id="table"></table></div>
  <p class="note" id="table-caption"></p>
</section>
"""

_SCRIPT = r"""
function columnsOf(cells) {
  const pruned = group.methods.map((method, index) => ({ method, index })).filter(({ method }) => !method.dense);
  const shared = group.sparsities.filter((s) => pruned.filter(({ index }) => cells[index].has(s)).length > 1);
  return shared.length ? shared : group.sparsities;
}

function drawTable() {
  const metric = metricOf();
  const cells = collectCells(metric);
  const columns = columnsOf(cells);
  const sign = direction(metric);
  const running = group.methods.flatMap((method, index) => (method.dense || method.control ? [] : [index]));
  const usual = columns.map((s) => usualCount(running.map((index) => cells[index].get(s)?.n ?? 0).filter((n) => n)));
  const best = columns.map((s, column) => Math.max(...running.map((index) => cells[index].get(s))
    .map((cell) => (cell?.n && cell.n === usual[column] ? sign * cell.mean : -Infinity))));
  const rows = group.methods.filter((method) => method.dense).map((method) => {
    const [sparsity, cell] = [...cells[group.methods.indexOf(method)]][0];
    return make("tr", { class: "whole" }, rowHead(method),
      make("td", { colspan: columns.length || 1 }, cellButton(group.methods.indexOf(method), sparsity, cell, metric)));
  });
  if (metric === group.metric.name && group.majority !== null) {
    rows.push(make("tr", { class: "whole" }, make("th", { scope: "row" }, "majority class"),
      make("td", { colspan: columns.length || 1 }, make("b", {}, tell(group.majority, metric)))));
  }
  group.methods.forEach((method, index) => {
    if (method.dense) return;
    rows.push(make("tr", {}, rowHead(method), columns.map((s, column) => {
      const cell = cells[index].get(s);
      if (!cell?.n) return make("td", {}, DASH);
      const isAlike = !method.control && cell.n === usual[column];
      const isBest = isAlike && sign !== 0 && tell(cell.mean, metric) === tell(sign * best[column], metric);
      const isNear = isAlike && !isBest && sign !== 0 && metric === group.metric.name && group.margin !== null
        && best[column] - sign * cell.mean <= group.margin * (1 + 1e-9);
      return make("td", { class: isBest ? "best" : isNear ? "near" : null }, cellButton(index, s, cell, metric));
    })));
  });
  $("table").classList.toggle("stacked", columns.length > 6); // the spread goes below the mean
  $("table").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Method"),
      columns.length ? columns.map((s) => make("th", { scope: "col" }, tellSparsity(s))) : make("th", { scope: "col" }, "dense"))),
    make("tbody", {}, rows));
  $("table-caption").textContent = (metric === group.metric.name ? group.caption
    : `${captionOf(metric)}: mean \u00b1 standard deviation over seeds (number of seeds). Columns are target sparsities, the fraction of prunable weights removed.`)
    + " Each number opens its runs.";
}

addSection({ draw: drawTable });
"""

SECTION = Section(_MARKUP, script=_SCRIPT)

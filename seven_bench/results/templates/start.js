// ---- Start

function chooseGroup() {
  let left = data.groups;
  for (const key of ["task", "model", "start", "setting"]) {
    const value = choose(key, distinct(left.map((item) => item[key])).map((v) => [v, v || "default"]));
    left = left.filter((item) => item[key] === value);
  }
  $("setting").closest("label").hidden = $("setting").disabled;
  group = left[0];
  choose("metric", Object.entries(group.metrics).map(([name, { words }]) => [name, words]));
  for (const section of sections) section.choose?.();
  drawAll();
}

function drawAll() {
  for (const section of sections) section.draw();
  remember();
  $("status").textContent = `Showing ${group.title}, ${group.metrics[metricOf()].words}`;
}

listen(["task", "model", "start", "setting"], chooseGroup);
listen(["metric"], drawAll);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
$("runs").addEventListener("click", (event) => { if (event.target === $("runs")) $("runs").close(); });
chooseGroup();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw("wide"); } });
addEventListener("beforeprint", () => redraw("wide"));

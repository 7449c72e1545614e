// The first view (health at a glance), and the two views of charts: learning and difficulty.

import { Chart } from "./charts.js";
import { el, show } from "./dom.js";
import { term } from "./help.js";
import { OVERVIEW, PANELS, otherPanels, panelOf } from "./panels.js";
import { address, go, state } from "./state.js";
import { recentTasks } from "./tasks.js";

const TILES = [
  ["propose/valid", "Valid proposals"], ["solve/rate", "Solve rate"], ["solve/in_between", "Solved sometimes"],
  ["reward/propose", "Proposer's reward"], ["reward/solve", "Solver's reward"],
  ["diversity/unique_shapes", "Unique shapes"], ["diversity/trivial", "Trivial tasks"], ["update/entropy", "Entropy"],
];
const BACK = 20; // steps between the two means that a tile's change compares

export class Overview {
  constructor() {
    this.charts = OVERVIEW.map((title) => new Chart(panelOf(title)));
    this.tiles = TILES.map(([metric, label]) => {
      const value = el("b", { "data-metric": metric }, "–");
      const change = el("span", { class: "quiet change" });
      return { metric, value, change, node: el("div", { class: "card tile" }, term(metric, label), value, change) };
    });
    this.tasks = el("div", {});
    this.node = el("div", {},
      el("h1", { class: "sr" }, "Overview"),
      el("section", { class: "tiles", "aria-label": "Newest step" }, this.tiles.map((tile) => tile.node)),
      tools(), el("section", { class: "grid", "aria-label": "Charts" }, this.charts.map((chart) => chart.node)),
      el("section", { "aria-labelledby": "recent" }, el("h2", { id: "recent" }, "Newest tasks ", el("a", { class: "more", href: address({ view: "tasks" }), "data-go": true }, "all")), this.tasks));
  }

  names() {
    return [...new Set([...TILES.map(([metric]) => metric), ...this.charts.flatMap((chart) => chart.names())])];
  }

  update(tables, context) {
    const main = tables[0];
    for (const tile of this.tiles) {
      const column = main.columns[tile.metric] ?? [];
      tile.value.textContent = show(tile.metric, column.at(-1) ?? null);
      tile.value.dataset.step = main.steps.at(-1) ?? "";
      tile.change.textContent = change(tile.metric, column);
    }
    for (const chart of this.charts) chart.update(tables);
    recentTasks(this.tasks, context.run);
  }

  destroy() {
    for (const chart of this.charts) chart.destroy();
  }
}

/** Mean of the last steps against the mean of those before: "20 steps: 41% → 55%". */
function change(metric, column) {
  const values = column.filter((value) => value !== null);
  const span = Math.min(BACK, Math.floor(values.length / 2));
  if (span < 2) return "";
  const mean = (from, to) => values.slice(from, to).reduce((sum, value) => sum + value, 0) / span;
  const end = values.length;
  return `${span} steps: ${show(metric, mean(end - 2 * span, end - span))} → ${show(metric, mean(end - span, end))}`;
}

export class ChartView {
  constructor(kind) {
    this.kind = kind;
    this.charts = PANELS[kind].map((panel) => new Chart(panel));
    this.grid = el("section", { class: "grid", "aria-label": "Charts" }, this.charts.map((chart) => chart.node));
    this.others = [];
    this.rest = el("section", { class: "grid" });
    this.restHead = el("h2", { hidden: true }, kind === "difficulty" ? "Measures of difficulty" : "Everything else that is recorded");
    this.node = el("div", {}, el("h1", { class: "sr" }, kind), tools(), this.grid, this.restHead, this.rest);
    this.known = "";
  }

  names() {
    return [...this.charts, ...this.others].flatMap((chart) => chart.names());
  }

  /** Names of the run that no panel draws get charts of their own. */
  discover(names) {
    if (this.known === names.join()) return;
    this.known = names.join();
    const there = new Set(names);
    for (const chart of this.charts) chart.node.hidden = !chart.names().some((name) => there.has(name));
    for (const chart of this.others) chart.destroy();
    this.others = otherPanels(names, this.kind).map((panel) => new Chart(panel));
    this.rest.replaceChildren(...this.others.map((chart) => chart.node));
    this.restHead.hidden = this.others.length === 0;
  }

  update(tables) {
    for (const chart of [...this.charts, ...this.others]) chart.update(tables);
  }

  destroy() {
    for (const chart of [...this.charts, ...this.others]) chart.destroy();
  }
}

function tools() {
  const choice = el("select", { onchange: (event) => go({ smooth: event.target.value }, { replace: true }) },
    [["", "automatic"], ["1", "off"], ["5", "5 steps"], ["20", "20 steps"], ["100", "100 steps"]].map(([value, label]) =>
      el("option", { value, selected: (state().smooth ?? "") === value }, label)));
  return el("div", { class: "tools" }, el("label", { class: "pick" }, "Smoothing ", choice), el("span", { class: "quiet wide" }, "Drag across a chart to zoom, double-click to go back; the legend shows the stored values under the cursor."));
}

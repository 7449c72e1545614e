// Line charts over steps: raw values faint, smoothed ones strong, a compared run dashed. uPlot draws; the legend, which
// shows the stored values at the cursor, and the table for keyboard and screen reader are ours.

import { el, isShare, scrolled, show } from "./dom.js";
import { term } from "./help.js";
import { state } from "./state.js";

/* global uPlot */
const HEIGHT = 190;
const sync = uPlot.sync("steps");
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.chart.setVisible(entry.isIntersecting);
}, { rootMargin: "200px" });
const resized = new ResizeObserver((entries) => {
  for (const entry of entries) entry.target.chart.resize(entry.contentRect.width);
});

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const color = (index) => css(`--series-${index % 8}`);

/** The axis of steps, which has marks at whole ones only. */
export const STEP_AXIS = {
  size: 26,
  incrs: [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((unit) => [unit, 2 * unit, 5 * unit]),
  values: (_, splits) => splits.map((step) => step.toLocaleString("en")),
};

/** Mean of the last `window` values; null where there is none. */
export function smooth(values, window) {
  const out = new Array(values.length);
  const recent = [];
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null) {
      recent.push(values[i]);
      sum += values[i];
      if (recent.length > window) sum -= recent.shift();
    }
    out[i] = recent.length && values[i] !== null ? sum / recent.length : null;
  }
  return out;
}

/** Steps that the mean of a line covers: what was chosen, else more of them the longer the run is. */
const windowOf = (steps) => Number(state().smooth) || (steps < 100 ? 1 : steps < 400 ? 5 : steps < 4000 ? 20 : 100);

export class Chart {
  /** panel: {title, series: [[metric, label]], range: [low, high]?, stacked: bool?} */
  constructor(panel) {
    this.panel = panel;
    this.tables = [];
    this.visible = false;
    this.stale = true;
    this.cursor = null;
    this.values = panel.series.map(() => el("output", {}, "–"));
    this.at = el("span", { class: "quiet at" });
    this.legend = el("ul", { class: "legend" }, panel.series.map(([metric, label], index) =>
      el("li", {}, el("span", { class: `swatch s${index % 8}` }), term(metric, label), " ", this.values[index])));
    this.canvas = el("div", { class: "plot", role: "img" });
    this.rows = el("details", { class: "rows", ontoggle: () => this.fillTable() }, el("summary", {}, "Table"));
    this.node = el("figure", { class: "card chart" }, el("figcaption", {}, el("h3", {}, panel.title), this.at), this.legend, this.canvas, this.rows);
    this.canvas.chart = this;
    seen.observe(this.canvas);
    resized.observe(this.canvas);
  }

  names() {
    return this.panel.series.map(([metric]) => metric);
  }

  /** tables: the run's Series, and a compared run's if there is one. */
  update(tables) {
    this.tables = tables;
    this.stale = true;
    this.tell();
    if (this.visible) this.draw();
    if (this.rows.open) this.fillTable();
  }

  setVisible(visible) {
    this.visible = visible;
    if (visible && this.stale) this.draw();
  }

  resize(width) {
    if (this.plot && Math.abs(this.plot.width - width) >= 1) this.plot.setSize({ width, height: HEIGHT });
  }

  /** The newest stored value of every series, or those under the cursor. */
  tell() {
    const main = this.tables[0];
    if (!main) return;
    const index = this.cursor;
    let step = main.steps.at(-1);
    if (index !== null && this.axis?.[index] !== undefined) step = this.axis[index];
    const row = index === null ? main.steps.length - 1 : main.steps.indexOf(step);
    this.panel.series.forEach(([metric], position) => {
      const value = main.columns[metric]?.[row] ?? null;
      const output = this.values[position];
      output.textContent = show(metric, value);
      output.dataset.metric = metric;
      output.dataset.step = step ?? "";
    });
    this.at.textContent = step === undefined ? "" : `step ${step}`;
    this.canvas.setAttribute("aria-label", `${this.panel.title}: ${this.panel.series.map(([, label], i) => `${label} ${this.values[i].textContent}`).join(", ")}`);
  }

  data() {
    const window = windowOf(this.tables[0].steps.length);
    this.smoothed = window > 1;
    const parts = this.tables.map((table) => {
      const columns = this.names().map((name) => table.columns[name] ?? new Array(table.steps.length).fill(null));
      const smoothed = this.smoothed ? columns.map((column) => smooth(column, window)) : [];
      if (this.panel.stacked) return [table.steps, ...stack(this.smoothed ? smoothed : columns)];
      return [table.steps, ...columns.reverse(), ...smoothed.reverse()]; // the first name is drawn last, on top
    });
    return parts.length > 1 ? uPlot.join(parts, parts.map((part) => part.map(() => 2))) : parts[0];
  }

  draw() {
    if (!this.tables.length) return;
    this.stale = false;
    const data = this.data();
    this.axis = data[0];
    const shape = `${data.length} ${this.tables.length}`;
    if (this.plot && this.shape === shape) {
      this.plot.setData(data);
      return;
    }
    this.plot?.destroy();
    this.shape = shape;
    this.plot = new uPlot(this.options(data.length - 1), data, this.canvas);
  }

  options(columns) {
    const count = this.panel.series.length;
    const perRun = columns / this.tables.length;
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const share = isShare(this.panel.series[0][0]);
    const metric = this.panel.series[0][0];
    const measured = metric.startsWith("seconds/") || metric.endsWith("_bytes");
    const format = (_, splits) => splits.map((value) => (share ? `${Math.round(100 * value)}%` : measured && value ? show(metric, value) : tick(value, splits)));
    const series = Array.from({ length: columns }, (_, i) => {
      const compared = i >= perRun;
      const raw = this.smoothed && !this.panel.stacked && i % perRun < count;
      const stroke = color(this.panel.stacked ? i % count : count - 1 - (i % count));
      return {
        stroke: raw ? `${stroke}55` : stroke,
        width: raw ? 1 : 1.75,
        dash: compared ? [5, 4] : undefined,
        fill: this.panel.stacked && !compared ? `${stroke}cc` : undefined,
        points: { show: (plot, index) => plot.data[index].length < 40 && !raw && !this.panel.stacked, size: 4 },
        spanGaps: true,
      };
    });
    if (this.panel.stacked) series.slice(0, count).forEach((one) => (one.width = 0));
    return {
      width: Math.max(this.canvas.clientWidth, 120),
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      scales: { x: { time: false }, y: { range: (_, low, high) => range(this.panel, low, high) } },
      axes: [{ ...axis, ...STEP_AXIS }, { ...axis, size: measured ? 62 : 48, values: format }],
      series: [{}, ...series],
      cursor: { sync: { key: sync.key, setSeries: false }, points: { size: 5 }, drag: { x: true, y: false } },
      hooks: { setCursor: [(plot) => { this.cursor = plot.cursor.idx ?? null; this.tell(); }] },
    };
  }

  redraw() {
    this.shape = null;
    this.stale = true;
    if (this.visible) this.draw();
  }

  fillTable() {
    const main = this.tables[0];
    if (!main || !this.rows.open) return;
    const rows = [];
    for (let i = main.steps.length - 1; i >= Math.max(0, main.steps.length - 30); i--)
      rows.push(el("tr", {}, el("th", { scope: "row" }, String(main.steps[i])), this.names().map((name) => el("td", {}, show(name, main.columns[name]?.[i] ?? null)))));
    const head = el("tr", {}, el("th", { scope: "col" }, "step"), this.panel.series.map(([, label]) => el("th", { scope: "col" }, label)));
    this.rows.querySelector(".scroll")?.remove();
    this.rows.append(scrolled(`${this.panel.title}, newest 30 steps`, el("table", {}, el("thead", {}, head), el("tbody", {}, rows))));
  }

  destroy() {
    seen.unobserve(this.canvas);
    resized.unobserve(this.canvas);
    this.plot?.destroy();
  }
}

/** Columns as the top edges of a stack, the last on top; drawn from the top down. */
function stack(columns) {
  const total = new Array(columns[0].length).fill(0);
  const tops = [...columns].reverse().map((column) => column.map((value, i) => (value === null ? null : (total[i] += value))));
  return tops.reverse();
}

/** A number on the axis, with as many digits as tell it from its neighbours. */
function tick(value, splits) {
  const digits = splits.length > 1 ? Math.max(0, Math.min(6, Math.ceil(-Math.log10(Math.abs(splits[1] - splits[0]))))) : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function range(panel, low, high) {
  if (panel.range) return panel.range;
  if (low === null) return [0, 1];
  if (panel.stacked || (low >= 0 && low < 0.5 * high)) return [0, high * 1.06 || 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

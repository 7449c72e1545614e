// Scores on benchmarks: each checkpoint with its interval, the untrained model, and published scores of the same protocol.

import { get } from "./data.js";
import { code, el, integer, percent, scrolled } from "./dom.js";
import { STEP_AXIS, color } from "./charts.js";
import { term } from "./help.js";
import { address, state } from "./state.js";

export class Benchmarks {
  constructor() {
    this.body = el("div", {}, el("p", { class: "quiet" }, "Reading…"));
    this.grid = el("div", {});
    this.node = el("div", {}, el("h1", {}, "Benchmarks"), this.body, this.grid);
    this.curves = []; // what draws each curve; `plot` once it is drawn
  }

  names() { return []; }

  destroy() {
    for (const curve of this.curves) curve.plot?.destroy();
    this.curves = [];
  }

  recolor() {
    for (const curve of this.curves) curve.draw();
  }

  async update(_, context) {
    const [rows, run] = await Promise.all([get(`runs/${context.run.id}/evaluations`), get(`runs/${context.run.id}`)]);
    const references = run.config.targets?.references ?? [];
    const base = ["untrained", run.config.model.name, run.model?.fingerprint].filter(Boolean).join(" ");
    const drawn = JSON.stringify([rows, references]);
    if (drawn !== this.drawn) {
      this.destroy();
      this.body.replaceChildren(...(rows.length ? groups(rows).map((group) => card(group, references, base, this.curves)) : [empty(references)]));
    }
    this.drawn = drawn;
    await this.drawGrid(rows);
  }

  async drawGrid(rows) {
    const chosen = rows.find((row) => String(row.id) === state().evaluation);
    if (!chosen) return this.grid.replaceChildren();
    const problems = await get(`evaluations/${chosen.id}`);
    problems.sort((a, b) => a.task_id.localeCompare(b.task_id, "en", { numeric: true }));
    const { problem } = state();
    const samples = problem ? await get(`evaluations/${chosen.id}/problem`, { id: problem }) : [];
    const shown = JSON.stringify([chosen.id, chosen.benchmark, name(chosen), problems, samples, address({ problem: "" })]);
    if (shown === this.shown && this.grid.firstChild) return; // what is read or focused stays
    this.shown = shown;
    this.grid.replaceChildren(
      el("h2", {}, `${chosen.benchmark}, ${name(chosen)}: every problem`),
      el("ul", { class: "problems" }, problems.map((one) => el("li", {}, square(one)))),
      el("p", { class: "quiet" }, "Green: every sample right. Amber: some. Red: none. Choose a problem to read its samples."),
      ...samples.map(sample));
  }
}

function square(one) {
  const kind = one.correct === one.samples ? "good" : one.correct ? "some" : "bad";
  const text = `${one.task_id}: ${one.correct} of ${one.samples} right${one.status === "ok" ? "" : `, ${one.status}`}`;
  return el("a", { class: `problem ${kind}`, title: text, href: address({ problem: one.task_id }), "data-go": true }, el("span", { class: "sr" }, text));
}

function sample(one) {
  return el("article", { class: "card attempt" },
    el("header", {}, el("b", {}, `${one.task_id}, sample ${one.sample}`), el("span", { class: `verdict ${one.correct ? "good" : "bad"}` }, one.correct ? "✓ right" : `✗ ${one.status}`), el("span", { class: "quiet" }, `${integer(one.tokens)} `, term("tokens", "tokens"), `, stopped by ${one.stop_reason}`)),
    one.detail ? code(one.detail, null, "detail") : null,
    code(one.solution ?? one.completion, null, "solution"));
}

/** A checkpoint of this run by its step; what belongs to no run by its subject. */
const name = (row) => (row.run === null ? row.subject : `step ${row.step}`);

function groups(rows) {
  const found = new Map();
  for (const row of rows) {
    const key = `${row.benchmark} ${row.protocol_hash}`;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return [...found.values()];
}

function card(rows, references, base, curves) {
  const { benchmark, protocol } = rows[0];
  const same = references.filter((one) => one.benchmark === benchmark && protocol.comparable?.includes(one.protocol));
  const whole = rows.filter((row) => row.samples > 0 && !row.missing);
  const lines = rows.map((row) => {
    const head = el("th", { scope: "row" }, name(row), row.finished ? "" : el("span", { class: "quiet" }, " (under way)"));
    if (!whole.includes(row)) {
      const why = row.missing ? `no score: ${integer(row.missing)} of its samples are missing from the database` : "nothing executed yet";
      return el("tr", {}, head, el("td", { class: "quiet", colspan: 5 }, why));
    }
    return el("tr", {}, head,
      el("td", { class: "num" }, el("b", { "data-evaluation": row.id }, percent(row.score, 1))),
      el("td", { class: "quiet num" }, `${percent(row.low, 1)} – ${percent(row.high, 1)}`),
      el("td", { class: "wide" }, interval(row, same)),
      el("td", { class: "num" }, `${integer(row.correct)} of ${integer(row.samples)}`),
      el("td", {}, el("a", { href: address({ evaluation: row.id }), "data-go": true }, "problems")));
  });
  const head = [["Model"], ["Score", "benchmark/score"], ["95% interval", "benchmark/interval"], [""], ["Samples right", "benchmark/samples"], [""]];
  const curve = el("div", { class: "curve", role: "img", "aria-label": `${benchmark} score per checkpoint; the table below has the numbers` });
  const points = whole.filter((row) => row.run !== null || row.subject === base);
  if (points.length > 1) {
    const own = { plot: null, draw: () => { own.plot?.destroy(); own.plot = drawCurve(curve, points, same); } };
    curves.push(own);
    requestAnimationFrame(() => { if (curves.includes(own)) own.draw(); });
  }
  return el("section", { class: "card" },
    el("h2", {}, `${benchmark} `, el("span", { class: "quiet" }, `protocol ${protocol.name}`)),
    points.length > 1 ? curve : null,
    scrolled(`Scores on ${benchmark}`, el("table", {}, el("thead", {}, el("tr", {}, head.map(([label, help]) => el("th", { scope: "col" }, help ? term(help, label) : label)))), el("tbody", {}, lines))),
    same.length
      ? el("ul", { class: "references" }, same.map((one) => el("li", {}, `${one.model}: ${one.pass_at_1.toFixed(1)}% (${one.protocol}, ${one.source})`)))
      : el("p", { class: "quiet" }, "No published score uses this protocol; scores of other protocols would mislead and are not drawn."));
}

/* global uPlot */
const PERCENTS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]; // between marks, so that they can be written short

/** Score per checkpoint with its interval as a band; the untrained model and the references as level lines. The axis
    begins at 0 and ends above the highest of them. */
function drawCurve(into, scored, references) {
  const trained = scored.filter((row) => row.run !== null);
  const base = scored.find((row) => row.run === null);
  const rows = base ? [{ ...base, step: 0 }, ...trained] : trained;
  const style = getComputedStyle(document.documentElement);
  const quiet = style.getPropertyValue("--quiet").trim();
  const axis = { stroke: quiet, grid: { stroke: style.getPropertyValue("--grid").trim(), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const levels = [...references.map((one) => [one.model, one.pass_at_1 / 100, color(1)]), ...(base ? [["untrained", base.score, quiet]] : [])].sort((a, b) => b[1] - a[1]);
  const draw = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.textAlign = "left";
    let top = -Infinity; // the line that the label above stands on: one that would cover it stands beside it
    let shift = 0;
    for (const [label, level, stroke] of levels) {
      const y = plot.valToPos(level, "y", true);
      ctx.strokeStyle = ctx.fillStyle = stroke;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      if (y - top >= 13 * devicePixelRatio) [top, shift] = [y, 0];
      ctx.fillText(label, bbox.left + 6 * devicePixelRatio + shift, top - 3 * devicePixelRatio);
      shift += ctx.measureText(label).width + 14 * devicePixelRatio;
    }
    ctx.restore();
  };
  const main = color(0);
  const top = Math.min(1, 1.15 * Math.max(0.01, ...rows.map((row) => row.high), ...levels.map(([, level]) => level)));
  return new uPlot({
    width: Math.max(into.clientWidth, 200), height: 260, legend: { show: false }, cursor: { show: false }, padding: [10, 10, 0, 0],
    scales: { x: { time: false }, y: { range: [0, top] } },
    axes: [{ ...axis, ...STEP_AXIS }, { ...axis, size: 48, incrs: PERCENTS, values: (_, splits) => splits.map((value) => percent(value, top < 0.1 ? 1 : 0)) }],
    series: [{}, { stroke: `${main}55`, points: { show: false } }, { stroke: `${main}55`, points: { show: false } }, { stroke: main, width: 2, points: { show: true, size: 7 } }],
    bands: [{ series: [1, 2], fill: `${main}22` }],
    hooks: { draw: [draw] },
  }, ["step", "high", "low", "score"].map((column) => rows.map((row) => row[column])), into);
}

/** The score with its interval on a line from 0 to 100%, and the references as ticks. */
function interval({ score, low, high }, references) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 200 16");
  picture.setAttribute("class", "interval");
  picture.setAttribute("aria-hidden", "true");
  const part = (kind, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    picture.append(node);
    return node;
  };
  part("line", { x1: 0, x2: 200, y1: 8, y2: 8, class: "axis" });
  for (const one of references) part("line", { x1: 2 * one.pass_at_1, x2: 2 * one.pass_at_1, y1: 2, y2: 14, class: "reference" }).append(tip(one));
  part("line", { x1: 200 * low, x2: 200 * high, y1: 8, y2: 8, class: "band" });
  part("circle", { cx: 200 * score, cy: 8, r: 4, class: "score" });
  return picture;
}

function tip(one) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "title");
  node.textContent = `${one.model} ${one.pass_at_1}%`;
  return node;
}

function empty(references) {
  const rows = references.map((one) => el("tr", {}, el("th", { scope: "row" }, one.model), el("td", {}, one.benchmark), el("td", { class: "num" }, `${one.pass_at_1.toFixed(1)}%`), el("td", {}, one.protocol), el("td", { class: "quiet" }, one.source)));
  return el("section", { class: "card" },
    el("p", {}, "Nothing has been evaluated in this run yet. ", el("code", {}, "./run.sh --eval-only --benchmark humaneval"), " scores a checkpoint, and ", el("code", {}, "evaluation.every"), " does so while training."),
    references.length ? el("details", {}, el("summary", {}, `Published scores that will be drawn beside scores of the same protocol (${references.length})`), scrolled("Published scores", el("table", {}, el("thead", {}, el("tr", {}, ["Model", "Benchmark", "pass@1", "Protocol", "Source"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)))) : null);
}

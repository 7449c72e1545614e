// Scores on benchmarks: each checkpoint with its interval, the untrained model, and published scores of the same protocol.

import { get } from "./data.js";
import { el, integer, percent } from "./dom.js";
import { term } from "./help.js";
import { address, state } from "./state.js";

const Z = 1.959964; // 95%

/** Wilson's score interval of `right` out of `total`. */
export function wilson(right, total) {
  if (!total) return [0, 1];
  const p = right / total;
  const center = (p + (Z * Z) / (2 * total)) / (1 + (Z * Z) / total);
  const half = (Z / (1 + (Z * Z) / total)) * Math.sqrt((p * (1 - p)) / total + (Z * Z) / (4 * total * total));
  return [Math.max(0, center - half), Math.min(1, center + half)];
}

export class Benchmarks {
  constructor() {
    this.body = el("div", {}, el("p", { class: "quiet" }, "Reading…"));
    this.grid = el("div", {});
    this.node = el("div", {}, el("h1", {}, "Benchmarks"), this.body, this.grid);
  }

  names() { return []; }
  destroy() {}

  async update(_, context) {
    const [rows, run] = await Promise.all([get(`runs/${context.run.id}/evaluations`), get(`runs/${context.run.id}`)]);
    const references = run.config.targets?.references ?? [];
    this.body.replaceChildren(...(rows.length ? groups(rows).map((group) => card(group, references)) : [empty(references)]));
    await this.drawGrid(rows);
  }

  async drawGrid(rows) {
    const chosen = rows.find((row) => String(row.id) === state().evaluation);
    if (!chosen) return this.grid.replaceChildren();
    const problems = await get(`evaluations/${chosen.id}`);
    this.grid.replaceChildren(
      el("h2", {}, `${chosen.benchmark}, ${name(chosen)}: every problem`),
      el("ul", { class: "problems" }, problems.map((one) => el("li", {}, el("span", { class: `problem ${one.correct === one.samples ? "good" : one.correct ? "some" : "bad"}`, title: `${one.task_id}: ${one.correct} of ${one.samples} right${one.status === "ok" ? "" : `, ${one.status}`}` }, el("span", { class: "sr" }, `${one.task_id}: ${one.correct} of ${one.samples} right`))))),
      el("p", { class: "quiet" }, "Green: every sample right. Amber: some. Red: none. Hover for the problem and how it failed."));
  }
}

const name = (row) => (row.step === null ? "untrained" : `step ${row.step}`);

function groups(rows) {
  const found = new Map();
  for (const row of rows) {
    const key = `${row.benchmark} ${row.protocol_hash}`;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return [...found.values()];
}

function card(rows, references) {
  const { benchmark, protocol } = rows[0];
  const protocolName = protocol.name ?? protocol.protocol ?? rows[0].protocol_hash.slice(0, 8);
  const same = references.filter((one) => one.benchmark === benchmark && one.protocol === protocolName);
  const scored = rows.filter((row) => row.samples > 0);
  const lines = scored.map((row) => {
    const score = row.correct / row.samples;
    const [low, high] = wilson(row.correct, row.samples);
    return el("tr", {},
      el("th", { scope: "row" }, name(row), row.finished ? "" : el("span", { class: "quiet" }, " (under way)")),
      el("td", { class: "num" }, el("b", { "data-evaluation": row.id }, percent(score, 1))),
      el("td", { class: "quiet num" }, `${percent(low, 1)} – ${percent(high, 1)}`),
      el("td", { class: "wide" }, interval(score, low, high, same)),
      el("td", { class: "num" }, `${integer(row.correct)} of ${integer(row.samples)}`),
      el("td", {}, el("a", { href: address({ evaluation: row.id }), "data-go": true }, "problems")));
  });
  const head = [["Checkpoint"], ["Score", "benchmark/score"], ["95% interval", "benchmark/interval"], [""], ["Samples right"], [""]];
  return el("section", { class: "card" },
    el("h2", {}, `${benchmark} `, el("span", { class: "quiet" }, `protocol ${protocolName}`)),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head.map(([label, help]) => el("th", { scope: "col" }, help ? term(help, label) : label)))), el("tbody", {}, lines))),
    same.length
      ? el("ul", { class: "references" }, same.map((one) => el("li", {}, `${one.model}: ${one.pass_at_1.toFixed(1)}% (${one.protocol}, ${one.source})`)))
      : el("p", { class: "quiet" }, "No published score uses this protocol; scores of other protocols would mislead and are not drawn."));
}

/** The score with its interval on a line from 0 to 100%, and the references as ticks. */
function interval(score, low, high, references) {
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
    references.length ? el("details", {}, el("summary", {}, `Published scores that will be drawn beside scores of the same protocol (${references.length})`), el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["Model", "Benchmark", "pass@1", "Protocol", "Source"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)))) : null);
}

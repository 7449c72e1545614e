// The runs of the store, their alarms, and the configuration of one beside another's.

import { get } from "./data.js";
import { el, inline, integer, moment, renew, scrolled } from "./dom.js";
import { term } from "./help.js";
import { address, state } from "./state.js";

export class Runs {
  constructor() {
    this.table = scrolled("Runs");
    this.starts = el("div", {});
    this.config = scrolled("Configuration");
    this.configHead = el("h2", {}, "Configuration");
    this.node = el("div", {}, el("h1", {}, "Runs"), this.table, this.configHead, this.config, el("h2", {}, "Starts, alarms and notes"), this.starts);
  }

  names() { return []; }
  destroy() {}

  async update(_, context) {
    renew(this.table, [runTable(context.runs, context.run.id)]);
    const other = state().compare;
    const asked = [context.run.id, other].filter(Boolean);
    const [events, ...details] = await Promise.all([get(`runs/${context.run.id}/events`), ...asked.map((id) => get(`runs/${id}`))]).catch(() => [[]]);
    if (!details.length) return;
    this.configHead.textContent = details.length > 1 ? "Configurations (differences first)" : "Configuration";
    renew(this.config, [configTable(details)]);
    renew(this.starts, [history(details[0], events.rows)]);
  }
}

function runTable(runs, chosen) {
  const head = ["Run", "State", "Model", term("step", "Steps"), term("seed", "Seed"), "Started", "Ended", "Host"].map((name) => el("th", { scope: "col" }, name));
  return el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, runs.map((run) =>
    el("tr", { class: run.id === chosen ? "chosen" : null },
      el("td", {}, el("a", { href: address({ run: run.id }), "data-go": true }, run.name)), el("td", {}, run.status),
      el("td", {}, String(run.model?.name ?? "–")), el("td", { class: "num" }, `${integer(run.step ?? 0)} of ${integer(run.steps)}`),
      el("td", { class: "num" }, String(run.seed)), el("td", {}, moment(run.started)), el("td", {}, moment(run.finished)), el("td", {}, run.host)))));
}

function flat(value, prefix = "") {
  const found = {};
  for (const [key, item] of Object.entries(value ?? {})) {
    if (item && typeof item === "object" && !Array.isArray(item)) Object.assign(found, flat(item, `${prefix}${key}.`));
    else found[`${prefix}${key}`] = typeof item === "string" ? item : JSON.stringify(item);
  }
  return found;
}

function configTable(details) {
  const columns = details.map((run) => ({ ...flat(run.config), ...flat(run.model, "(model) "), ...flat(run.versions, "(version) ") }));
  const keys = [...new Set(columns.flatMap(Object.keys))];
  const differs = (key) => columns.length > 1 && columns[0][key] !== columns[1][key];
  keys.sort((a, b) => differs(b) - differs(a));
  const head = ["Key", ...details.map((run) => run.name)].map((name) => el("th", { scope: "col" }, name));
  return el("table", { class: "config" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, keys.map((key) =>
    el("tr", { class: differs(key) ? "differs" : null }, el("th", { scope: "row" }, key), columns.map((column) => el("td", {}, inline(column[key] ?? "–", 120)))))));
}

function history(run, events) {
  const rows = [
    ...run.starts.map((start) => ({ when: start.started, kind: "start", step: start.after_step, text: start.after_step === null ? `process ${start.pid} on ${start.host}` : `resumed after step ${start.after_step}: process ${start.pid} on ${start.host}` })),
    ...events.map((event) => ({ when: event.recorded, kind: event.kind, step: event.step, text: event.text })),
  ].sort((a, b) => (a.when < b.when ? 1 : -1));
  const head = ["Time", term("event_step", "Step"), "Kind", "What"].map((name) => el("th", { scope: "col" }, name));
  return scrolled("Starts, alarms and notes", el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map((row) =>
    el("tr", {}, el("td", {}, moment(row.when)), el("td", { class: "num" }, row.step === null ? "–" : String(row.step)), el("td", {}, row.kind), el("td", { class: "wide" }, inline(row.text, 1000)))))));
}

// The page: which view is shown, of which run, and when it is read anew.

import { Benchmarks } from "./benchmarks.js";
import { $, el, renew } from "./dom.js";
import { Series, follow, get, identity } from "./data.js";
import { ChartView, Overview } from "./overview.js";
import { Runs } from "./runs.js";
import { address, go, onChange, state } from "./state.js";
import { drawStatus } from "./status.js";
import { Proposals, Single, Tasks } from "./tasks.js";

const VIEWS = {
  overview: ["Overview", () => new Overview()],
  learning: ["Learning", () => new ChartView("learning")],
  difficulty: ["Difficulty", () => new ChartView("difficulty")],
  benchmarks: ["Benchmarks", () => new Benchmarks()],
  tasks: ["Tasks", () => (state().task ? new Single() : new Tasks())],
  proposals: ["Proposals", () => (state().proposal ? new Single() : new Proposals())],
  runs: ["Runs", () => new Runs()],
};

const known = { status: null, now: null, runs: [], newest: null, events: null };
const series = new Map();
let view = null;
let viewKey = "";

const shownRun = () => known.runs.find((run) => String(run.id) === state().run) ?? known.runs[0];
const comparedRun = () => known.runs.find((run) => String(run.id) === state().compare);
const viewName = () => (Object.hasOwn(VIEWS, state().view) ? state().view : "overview");
const seriesOf = (run) => {
  if (!series.has(identity(run))) series.set(identity(run), new Series(run.id));
  return series.get(identity(run));
};

function drawHeader() {
  const run = shownRun();
  const options = (none) => [none && el("option", { value: "" }, none), ...known.runs.map((one) => el("option", { value: one.id }, `${one.name}${one.status === "running" ? " ●" : ""}`))];
  for (const [id, none, chosen] of [["run", null, run?.id], ["compare", "no other run", comparedRun()?.id]]) {
    const wanted = known.runs.map((one) => `${identity(one)} ${one.status}`).join();
    if ($(id).dataset.runs !== wanted) {
      $(id).replaceChildren(...options(none).filter(Boolean));
      $(id).dataset.runs = wanted;
    }
    $(id).value = chosen ?? "";
  }
  const active = viewName();
  renew($("tabs"), Object.entries(VIEWS).map(([name, [label]]) =>
    el("a", { href: address({ view: name === "overview" ? "" : name, task: "", at: "", proposal: "", q: "", step: "", outcome: "", status: "", type: "" }), "data-go": true, "aria-current": name === active ? "page" : null }, label)));
}

const strip = () => drawStatus({ ...known, run: shownRun() });

/** Read what the page shows from the store, then draw it. Calls while one runs are joined into one more. */
let running = null;
let again = false;
async function refresh() {
  if (running) {
    again = true;
    return running;
  }
  running = read().catch((problem) => notice(problem.message)).finally(() => {
    running = null;
    if (again) {
      again = false;
      refresh();
    }
  });
  return running;
}

async function read() {
  known.runs = await get("runs").catch(() => known.runs);
  const there = new Set(known.runs.map(identity));
  for (const key of series.keys()) if (!there.has(key)) series.delete(key);
  const run = shownRun();
  drawHeader();
  if (!run) return waiting();
  show();
  const shown = view;
  const compared = comparedRun();
  const [steps, events] = await Promise.all([get(`runs/${run.id}/steps`, { limit: 1 }), get(`runs/${run.id}/events`)]);
  known.newest = steps[0] ?? null;
  known.events = events;
  strip();
  if (shown.discover) shown.discover(await get(`runs/${run.id}/names`));
  const tables = [run, ...(compared && compared.id !== run.id ? [compared] : [])].map(seriesOf);
  const names = shown.names();
  if (names.length) await Promise.all(tables.map((table) => table.want(names)));
  if (shown !== view) return;
  await shown.update(tables, { run, runs: known.runs, compared });
  const last = tables[0].steps.at(-1) ?? known.newest?.step;
  if (last > (known.newest?.step ?? 0) && last !== overtaken) {
    overtaken = last; // recorded between the two requests: the strip is a step behind the charts, so read once more
    again = true;
    return;
  }
  document.body.dataset.step = last ?? "";
  if (!firstPaint) {
    firstPaint = true;
    requestAnimationFrame(() => performance.mark("azr-painted"));
  }
}
let firstPaint = false;
let overtaken = null; // the last step that was read again for

function show() {
  const { task, at, proposal, run, smooth } = state();
  const key = [viewName(), task, at, proposal, run, viewName() === "tasks" || viewName() === "proposals" ? "" : smooth].join("|");
  if (key === viewKey && view) return;
  viewKey = key;
  view?.destroy();
  view = VIEWS[viewName()][1]();
  $("main").replaceChildren(view.node);
}

function waiting() {
  view?.destroy();
  view = null;
  strip();
  $("main").replaceChildren(el("section", { class: "card waiting" },
    el("h1", {}, "Waiting for a training"),
    el("p", {}, known.status?.message ?? "Looking for a training…"),
    el("p", {}, "Start one with ", el("code", {}, "./run.sh --dashboard"), "; this page goes on by itself as soon as there is something to show.")));
}

function notice(text) {
  if (!view && !known.runs.length) return waiting();
  let line = $("notice");
  if (!line) $("main").prepend((line = el("p", { id: "notice", class: "notice warn", role: "status" })));
  line.textContent = text;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const chart of [...(view?.charts ?? []), ...(view?.others ?? [])]) chart.redraw();
  view?.recolor?.();
}

$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("azr-theme", theme);
  setTheme(theme);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (query) => {
  if (!localStorage.getItem("azr-theme")) setTheme(query.matches ? "dark" : "light");
});
$("run").addEventListener("change", (event) => go({ run: event.target.value, task: "", at: "", proposal: "" }));
$("compare").addEventListener("change", (event) => go({ compare: event.target.value }));
onChange(refresh);

let stripDue = false;
function stripSoon() {
  if (stripDue) return;
  stripDue = true;
  requestAnimationFrame(() => {
    stripDue = false;
    strip();
  });
}

async function readStatus() {
  known.status = await get("status");
  known.now = known.status.now;
  stripSoon();
}

follow({
  reset: () => readStatus().then(refresh).catch(() => {}),
  status: (status) => {
    known.status = status;
    known.now = status.now;
    stripSoon();
    refresh();
  },
  progress: (now) => {
    known.now = now;
    stripSoon();
  },
  changed: refresh,
}, (connected) => {
  $("connection").textContent = connected ? "● live" : "○ the dashboard's server does not answer; trying again";
  $("connection").classList.toggle("bad", !connected);
});
readStatus().then(refresh).catch(() => {});

// The strip on top: what the training does now, and how it fares.

import { $, bytes, duration, el, integer, number, renew } from "./dom.js";
import { term } from "./help.js";

const WORDS = {
  training: "Training", finished: "Finished", interrupted: "Interrupted", failed: "Failed",
  crashed: "Ended without a word", lost: "Connection lost", waiting: "Waiting",
};
const PHASES = {
  starting: "starting", propose: "proposing", validate: "validating", solve: "solving", grade: "grading",
  update: "updating", recorded: "recording", evaluate: "evaluating",
};

/** what: {status, now, run (a row of /api/runs, the one shown), newest (of that run: /steps' last row), events (of that run)} */
export function drawStatus({ status, now, run, newest, events }) {
  const live = status?.state === "training" && now && (!run || run.id === status.run || status.remote) ? now : null;
  const state = live || !run || run.id === status?.run ? status?.state ?? "waiting" : run.status;
  const step = newest?.step ?? run?.step ?? 0;
  const steps = live?.steps || run?.steps || 0;
  const parts = [el("div", { class: `pill ${state}`, role: "status" }, el("span", { class: "dot" }), WORDS[state] ?? state)];
  parts.push(fact("step", "Step", el("b", { "data-fact": "step", "data-step": step }, integer(step)), steps ? ` of ${integer(steps)}` : "", bar(step, steps, "Steps of the run")));
  if (live) {
    const within = live.total ? ` ${integer(live.done)}/${integer(live.total)}` : "";
    parts.push(fact("phase", "Phase", el("b", { "data-fact": "phase" }, `${PHASES[live.phase] ?? live.phase}`), `${within} · step ${live.step}`, bar(live.done, live.total, "Progress in the phase")));
    parts.push(fact("time_left", "Time left", el("b", {}, duration(live.seconds_left))));
  }
  const timings = newest?.timings ?? {};
  parts.push(fact("tokens/s", "Speed", el("b", { "data-metric": "tokens/s", "data-step": step }, number(timings["tokens/s"])), " tokens/s"));
  parts.push(fact("seconds/step", "Step time", el("b", { "data-metric": "seconds/step", "data-step": step }, duration(timings["seconds/step"]))));
  parts.push(fact("memory/resident_bytes", "Memory", el("b", { "data-metric": "memory/resident_bytes", "data-step": step }, bytes(timings["memory/resident_bytes"]))));
  if (events?.executor) parts.push(fact("defences", "Executor", el("b", { class: "small" }, events.executor)));
  const alarm = events?.newest_alarm;
  parts.push(fact("alarms", "Alarms", el("b", { "data-fact": "alarms", class: alarm ? "bad" : "" }, integer(events?.alarms ?? 0)), alarm ? ` newest at step ${alarm.step}` : ""));
  renew($("status"), [el("div", { class: "facts" }, parts), message(status, state, alarm)]);
  document.title = run ? `${integer(step)}${steps ? `/${integer(steps)}` : ""} · AZR` : "AZR";
}

function fact(metric, label, ...content) {
  return el("div", { class: "fact" }, term(metric, label), el("div", {}, content));
}

function bar(done, total, label) {
  return total ? el("progress", { value: done, max: total, "aria-label": label }) : null;
}

function message(status, state, alarm) {
  const lines = [];
  if (["crashed", "lost", "failed"].includes(state)) lines.push(el("p", { class: "notice bad", role: "alert" }, status?.message ?? state));
  if (status?.refusal) lines.push(el("p", { class: "notice bad", role: "alert" }, status.refusal));
  if (alarm && state === "training") lines.push(el("p", { class: "notice warn" }, `Alarm at step ${alarm.step}: ${alarm.text}`));
  return el("div", {}, lines);
}

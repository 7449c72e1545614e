// The tasks that the model made, each with its attempts; and the proposals, the rejected ones with their reasons.

import { get, identity } from "./data.js";
import { code, el, inline, integer, number, percent, renew, scrolled } from "./dom.js";
import { term } from "./help.js";
import { address, go, state } from "./state.js";

const TYPES = ["deduction", "abduction", "induction"];
const OUTCOMES = { all_solved: "solved always", some_solved: "solved sometimes", none_solved: "never solved", not_attempted: "not attempted" };

const taskLink = (task) => address({ view: "tasks", task: task.task_id, at: task.step });

export async function recentTasks(into, run) {
  const page = await get(`runs/${run.id}/tasks`, { limit: 6 }).catch(() => ({ rows: [] }));
  renew(into, [page.rows.length ? taskTable(page.rows) : el("p", { class: "quiet" }, "No task yet.")]);
}

function taskTable(rows) {
  const head = ["Step", "Type", "Program", term("pairs", "Input"), "Output"].map((name) => el("th", { scope: "col" }, name));
  head.push(el("th", { scope: "col", class: "num" }, term("solve_rate", "r̄")));
  return scrolled("Tasks", el("table", { class: "tasks" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map(taskRow))));
}

function taskRow(task) {
  const pair = task.pairs[0] ?? { input: "", output: "" };
  return el("tr", {},
    el("td", {}, el("a", { href: taskLink(task), "data-go": true, "aria-label": `Task of step ${task.step}, ${task.type}` }, String(task.step))),
    el("td", {}, el("span", { class: `type ${task.type}` }, task.type), task.origin === "buffer" ? el("div", { class: "quiet" }, "again") : null),
    el("td", { class: "wide" }, el("a", { class: "cover", tabindex: "-1", href: taskLink(task), "data-go": true }, inline(task.program, 220))),
    el("td", {}, inline(pair.input, 60), task.total_pairs > 1 ? el("div", { class: "quiet" }, `1 of ${task.total_pairs}`) : null),
    el("td", {}, inline(pair.output, 60)),
    el("td", { class: "num" }, rate(task.solve_rate)));
}

function rate(value) {
  if (value === null) return el("span", { class: "quiet" }, "–");
  return el("span", { class: "rate" }, el("meter", { min: 0, max: 1, value, "aria-hidden": "true" }), percent(value));
}

/** A list in pages with filters in the address. */
class List {
  constructor(kind, filters, table) {
    this.kind = kind;
    this.table = table;
    this.rows = [];
    this.newer = el("button", { type: "button", class: "newer", hidden: true, onclick: () => this.load() }, "Show the newer ones");
    this.body = el("div", { class: "list" });
    this.more = el("button", { type: "button", hidden: true, onclick: () => this.load(this.next) }, "Older");
    this.filled = JSON.stringify(this.parameters());
    this.form = el("form", { class: "filters", role: "search", onsubmit: (event) => this.submit(event) }, filters, el("button", {}, "Search"));
    for (const input of this.form.querySelectorAll("select")) input.addEventListener("change", (event) => this.submit(event));
    this.node = el("div", {}, this.form, this.newer, this.body, this.more);
  }

  submit(event) {
    event.preventDefault();
    go(Object.fromEntries(new FormData(this.form)), { replace: true });
    this.filled = JSON.stringify(this.parameters());
  }

  /** The form says what the address does: a link or the back button may have changed it. */
  fill() {
    const parameters = this.parameters();
    if (this.filled === JSON.stringify(parameters)) return; // what is being typed stays
    this.filled = JSON.stringify(parameters);
    for (const field of this.form.elements) if (field.name) field.value = parameters[field.name] ?? "";
  }

  question() {
    return JSON.stringify([identity(this.run), this.parameters()]);
  }

  parameters() {
    const { type, outcome, status, step, q } = state();
    return { type, q, step, ...(this.kind === "tasks" ? { outcome } : { status: status ?? "invalid" }) };
  }

  async load(before) {
    const asked = this.question();
    try {
      const page = await get(`runs/${this.run.id}/${this.kind}`, { ...this.parameters(), before });
      if (asked !== this.question()) return;
      this.rows = before ? [...this.rows, ...page.rows] : page.rows;
      this.next = page.next;
      this.asked = asked;
      this.pages = before ? this.pages + 1 : 1;
      this.newer.hidden = true;
      this.more.hidden = !page.next;
      renew(this.body, [this.rows.length ? this.table(this.rows) : el("p", { class: "quiet" }, "Nothing matches.")]);
    } catch (problem) {
      this.body.replaceChildren(el("p", { class: "notice bad" }, problem.message));
    }
  }

  /** New rows are shown at once at the top of the first page, and offered when older pages are open. */
  update(run) {
    this.run = run;
    this.fill();
    if (this.asked !== this.question() || this.pages === 1) this.load();
    else this.newer.hidden = false;
  }
}

function choose(name, label, choices, value) {
  return el("label", { class: "pick" }, `${label} `, el("select", { name }, choices.map(([key, text]) => el("option", { value: key, selected: key === value }, text))));
}

const typeChoice = () => choose("type", "Type", [["", "all"], ...TYPES.map((type) => [type, type])], state().type ?? "");
const stepField = () => el("label", { class: "pick" }, "Step ", el("input", { name: "step", type: "number", min: "0", value: state().step ?? "" }));
const searchField = (hint) => el("label", { class: "pick" }, "Search ", el("input", { name: "q", type: "search", placeholder: hint, value: state().q ?? "" }));

export class Tasks {
  constructor() {
    this.list = new List("tasks", [typeChoice(), choose("outcome", "Outcome", [["", "all"], ...Object.entries(OUTCOMES)], state().outcome ?? ""), stepField(), searchField("program, input, output")], taskTable);
    this.node = el("div", {}, el("h1", {}, "Tasks"), this.list.node);
  }

  names() { return []; }
  update(_, context) { this.list.update(context.run); }
  destroy() {}
}

export class Proposals {
  constructor() {
    const verdicts = [["invalid", "rejected"], ["repeated", "repeated"], ["vacuous", "vacuous"], ["valid", "valid"]];
    const status = choose("status", "Verdict", verdicts, state().status ?? "invalid");
    this.list = new List("proposals", [status, typeChoice(), stepField(), searchField("text or reason")], proposalTable);
    this.node = el("div", {}, el("h1", {}, "Proposals"), this.list.node);
  }

  names() { return []; }
  update(_, context) { this.list.update(context.run); }
  destroy() {}
}

function proposalTable(rows) {
  const head = ["Step", "Type", "Reason", "What the model wrote"].map((name) => el("th", { scope: "col" }, name));
  head.push(...["reward", "tokens"].map((name) => el("th", { scope: "col", class: "num" }, term(name, name[0].toUpperCase() + name.slice(1)))));
  return scrolled("Proposals", el("table", { class: "tasks" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map((row) => {
    const link = address({ view: "proposals", proposal: `${row.step}.${row.idx}` });
    return el("tr", {},
      el("td", {}, el("a", { href: link, "data-go": true, "aria-label": `Proposal ${row.idx} of step ${row.step}` }, `${row.step}.${row.idx}`)),
      el("td", {}, el("span", { class: `type ${row.type}` }, row.type)),
      el("td", { class: "reason" }, inline(row.reason || row.status, 160)),
      el("td", { class: "wide" }, el("a", { class: "cover", tabindex: "-1", href: link, "data-go": true }, inline(row.text, 260))),
      el("td", { class: "num" }, number(row.reward)), el("td", { class: "num" }, integer(row.tokens)));
  }))));
}

/** One page for one task, or one proposal. */
export class Single {
  constructor() {
    this.node = el("div", {});
    this.shown = "";
  }

  names() { return []; }
  destroy() {}

  async update(_, context) {
    const { task, at, proposal } = state();
    const key = `${identity(context.run)} ${task} ${at} ${proposal}`;
    if (key === this.shown) return;
    this.shown = key;
    try {
      if (task) this.node.replaceChildren(...taskPage(await get(`runs/${context.run.id}/tasks/${encodeURIComponent(task)}`, { step: at })));
      else this.node.replaceChildren(...proposalPage(await get(`runs/${context.run.id}/proposals/${proposal.split(".").map(encodeURIComponent).join("/")}`)));
    } catch (problem) {
      this.node.replaceChildren(back(task ? "tasks" : "proposals"), el("p", { class: "notice bad" }, problem.message));
    }
  }
}

const back = (view) => el("p", {}, el("a", { href: address({ view, task: "", at: "", proposal: "" }), "data-go": true }, `← all ${view}`));

function facts(pairs) {
  return el("dl", { class: "meta" }, pairs.filter(Boolean).map(([name, value, help]) => el("div", {}, el("dt", {}, help ? term(help, name) : name), el("dd", {}, value))));
}

function taskPage(task) {
  const right = task.attempts.filter((attempt) => attempt.correct).length;
  const pairs = task.pairs.map((pair, index) => el("tr", {}, el("td", {}, task.type === "induction" ? (index < task.shown ? "shown" : "hidden") : ""), el("td", {}, code(pair.input, null, "input")), el("td", {}, code(pair.output, null, "output"))));
  return [
    back("tasks"),
    el("h1", {}, `A task of ${task.type}, step ${task.step}`),
    facts([
      ["Solve rate r̄", `${percent(task.solve_rate)}${task.attempts.length ? ` (${right} of ${task.attempts.length})` : ""}`, "solve_rate"],
      ["Origin", task.origin === "proposed" ? "proposed in this step" : "from the buffer, attempted again"],
      task.proposals.length && ["Proposer's reward", number(task.proposals.at(-1).reward), "reward"],
      task.steps.length > 1 && ["Steps with it", task.steps.map((step) => [el("a", { href: address({ at: step }), "data-go": true }, String(step)), " "]).flat()],
      ...Object.entries(task.difficulty ?? {}).map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? number(value) : String(value), `difficulty/${name}`]),
      ["Id", el("code", {}, task.task_id)],
    ].map((fact) => fact || null)),
    el("h2", {}, "Program"), code(task.program, task.highlighted, "program"),
    task.message ? [el("h2", {}, "Message"), code(task.message, null, "message")] : null,
    el("h2", {}, task.pairs.length > 1 ? "Inputs and outputs" : "Input and output"),
    scrolled("Inputs and outputs", el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, ["", "Input", "Output"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, pairs))),
    el("h2", {}, `Attempts (${task.attempts.length})`),
    ...task.attempts.map(attemptCard),
    task.attempts.length ? null : el("p", { class: "quiet" }, "Valid, but beyond the step's solve budget: nobody attempted it."),
  ].flat().filter(Boolean);
}

function attemptCard(attempt) {
  const verdict = attempt.correct ? "right" : attempt.status === "ok" ? "wrong" : attempt.status;
  return el("article", { class: "card attempt" },
    el("header", {}, el("span", { class: `verdict ${attempt.correct ? "good" : "bad"}` }, attempt.correct ? "✓ " : "✗ ", verdict),
      el("span", { class: "quiet" }, term("reward", "reward"), ` ${number(attempt.reward)} · `, term("advantage", "advantage"), ` ${number(attempt.advantage)} · ${integer(attempt.tokens)} `, term("tokens", "tokens"), ` · stopped by ${attempt.stop_reason}`)),
    attempt.answer === null ? el("p", { class: "quiet" }, "No answer: ", inline(attempt.reason, 300)) : code(attempt.answer, attempt.highlighted, "answer"),
    attempt.text !== attempt.answer ? el("details", {}, el("summary", {}, "The whole completion"), code(attempt.text, null, "completion")) : null);
}

function proposalPage(proposal) {
  return [
    back("proposals"),
    el("h1", {}, `Proposal ${proposal.idx} of step ${proposal.step}`),
    facts([
      ["Verdict", proposal.status], ["Type", proposal.type], ["Reason", inline(proposal.reason || "–", 2000)],
      ["Solve rate r̄", percent(proposal.solve_rate), "solve_rate"], ["Reward", number(proposal.reward), "reward"],
      ["Advantage", number(proposal.advantage), "advantage"], ["Tokens", `${integer(proposal.tokens)}, stopped by ${proposal.stop_reason}`, "tokens"],
      proposal.task_id && ["Task", el("a", { href: address({ view: "tasks", proposal: "", task: proposal.task_id, at: proposal.step }), "data-go": true }, proposal.task_id)],
    ].map((fact) => fact || null)),
    el("h2", {}, "What the model wrote"), code(proposal.text, null, "completion"),
    proposal.program ? [el("h2", {}, "Program that was read from it"), code(proposal.program, proposal.highlighted, "program")] : null,
    proposal.inputs.length ? [el("h2", {}, "Inputs"), ...proposal.inputs.map((input) => code(input, null, "input"))] : null,
    el("details", {}, el("summary", {}, `References shown in the prompt (${proposal.refs.length})`), proposal.refs.map((text) => code(text, null, "reference"))),
  ].flat().filter(Boolean);
}

// Which numbers are drawn together. Names are the store's; what has no panel here is drawn under "Everything else".

const types = (prefix) => ["deduction", "abduction", "induction"].map((type) => [`${prefix}/${type}`, type]);
const SHARE = [0, 1];

export const PANELS = {
  learning: [
    { title: "Valid proposals", series: [["propose/valid", "all"], ...types("propose/valid")], range: SHARE },
    { title: "Solve rate", series: [["solve/rate", "all"], ...types("solve/rate")], range: SHARE },
    { title: "Proposer's reward", series: [["reward/propose", "all"], ...types("reward/propose")] },
    { title: "Solver's reward", series: [["reward/solve", "all"], ...types("reward/solve")] },
    { title: "Answers that parse", series: [["solve/parsed", "all"], ...types("solve/parsed")], range: SHARE },
    { title: "Solve rate among parsed", series: [["solve/rate_of_parsed", "all"], ...types("solve/rate_of_parsed")], range: SHARE },
    { title: "Loss", series: [["update/loss", "loss"]] },
    { title: "Gradient norm", series: [["update/grad_norm", "gradient norm"]] },
    { title: "Entropy", series: [["update/entropy", "entropy"]] },
    { title: "Importance ratio", series: [["update/importance_ratio", "mean ratio"]] },
    { title: "Zero variance", series: [["update/zero_advantage", "samples without advantage"], ["update/importance_capped", "weights capped"], ["update/clip_fraction", "clipped"]], range: SHARE },
    { title: "Silent groups", series: [["advantage/silent_groups", "groups of six"]], range: [0, 6] },
    { title: "Response length", series: [["propose/tokens", "proposals"], ["solve/tokens", "answers"]] },
    { title: "Cut, repeated or vacuous", series: [["propose/cut", "cut"], ["propose/repeated", "repeated"], ["propose/vacuous", "vacuous"]], range: SHARE },
    { title: "Time per phase", series: ["propose", "validate", "solve", "grade", "update"].map((phase) => [`seconds/${phase}`, phase]), stacked: true },
    { title: "Speed", series: [["tokens/s", "tokens/s while sampling"]] },
    { title: "Memory", series: [["memory/resident_bytes", "resident"]] },
  ],
  difficulty: [
    { title: "Level", series: types("curriculum/level"), range: [0, 10] },
    { title: "Median structural difficulty", series: [["difficulty/median_structural", "all"], ...types("difficulty/median_structural")] },
    { title: "Median dynamic difficulty", series: [["difficulty/median_dynamic", "all"], ...types("difficulty/median_dynamic")] },
    { title: "Solve rate of new tasks, smoothed", series: types("curriculum/rate"), range: SHARE },
    { title: "Valid by type of data, smoothed", series: [["curriculum/written/str", "text"], ["curriculum/written/list", "lists"], ["curriculum/written/number", "numbers"], ["curriculum/written/dict", "dicts"]], range: SHARE },
    { title: "Solve rate of the untrained model", series: [["solve/untrained", "all"], ...types("solve/untrained")], range: SHARE },
    { title: "Solve rate of the step's tasks", series: [["tasks/solved_all", "all"], ["tasks/solved_most", "most"], ["tasks/solved_half", "about half"], ["tasks/solved_few", "few"], ["tasks/solved_none", "none"]], stacked: true, range: SHARE },
    { title: "Tasks solved sometimes", series: [["solve/in_between", "0 < r̄ < 1"]], range: SHARE },
    { title: "Program size", series: [["tasks/characters", "characters"]] },
    { title: "Lines per program", series: [["tasks/lines", "lines"]] },
    { title: "Diversity", series: [["diversity/unique_programs", "unique programs"], ["diversity/unique_shapes", "unique shapes"], ["diversity/reference_distance", "distance to references"], ["diversity/trivial", "trivial"]], range: SHARE },
    { title: "Task buffer", series: types("buffer") },
    { title: "Tasks attempted", series: [["solve/tasks", "all"], ["solve/new", "new"]] },
  ],
};

export const OVERVIEW = ["Valid proposals", "Solve rate", "Proposer's reward", "Solver's reward", "Diversity", "Time per phase"];
const ALL = [...PANELS.learning, ...PANELS.difficulty];
export const panelOf = (title) => ALL.find((panel) => panel.title === title);

const drawn = new Set(ALL.flatMap((panel) => panel.series.map(([metric]) => metric)));
const ofDifficulty = (name) => name.startsWith("difficulty/") || name.startsWith("curriculum/");

/** Panels for the names that no panel above draws: one per group of names, at most eight lines each. */
export function otherPanels(names, view) {
  const groups = new Map();
  for (const name of names) {
    if (drawn.has(name) || ofDifficulty(name) !== (view === "difficulty")) continue;
    const [group, ...rest] = name.split("/");
    // Measures differ in unit: only counts of one kind share a chart.
    const key = group === "rejected" || group === "vacuous" ? group : rest.length > 1 ? `${group}/${rest[0]}` : name;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push([name, rest.join(" ").replaceAll("_", " ") || group]);
  }
  const panels = [];
  for (const [key, series] of groups)
    for (let i = 0; i < series.length; i += 8) panels.push({ title: title(key), series: series.slice(i, i + 8) });
  return panels;
}

const title = (key) => {
  const text = key.replaceAll("_", " ").replaceAll("/", ": ");
  return text[0].toUpperCase() + text.slice(1);
};

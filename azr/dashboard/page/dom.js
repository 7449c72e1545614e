// Elements, text and numbers. Everything becomes a text node: nothing here parses markup.

export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** Give a node these children. Nodes that can stay do: the keyboard's focus, a hover and a screen reader's place are in
    them. Only for children without listeners of their own. */
export function renew(node, wanted) {
  const there = [...node.childNodes];
  wanted.forEach((fresh, index) => {
    const old = there[index];
    if (!old) node.append(fresh);
    else if (old.isEqualNode(fresh)) return;
    else if (old.nodeName !== fresh.nodeName) old.replaceWith(fresh);
    else if (old.nodeType === Node.TEXT_NODE) old.data = fresh.data;
    else {
      for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "aria-describedby") old.removeAttribute(name);
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      renew(old, [...fresh.childNodes]);
    }
  });
  for (const rest of there.slice(wanted.length)) rest.remove();
}

// Characters that are invisible, or that reorder or overwrite their neighbours, shown as what they are.
// Default_Ignorable_Code_Point: fillers, joiners, bidi controls, variation selectors, tags, whatever Unicode adds.
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]/gu;
const NAMES = { 0: "NUL", 7: "BEL", 8: "BS", 11: "VT", 12: "FF", 13: "CR", 27: "ESC", 127: "DEL" };
const name = (sign) => {
  const code = sign.codePointAt(0);
  return `‹${NAMES[code] ?? code.toString(16).toUpperCase().padStart(4, "0")}›`;
};

/** Text that the model wrote, as text nodes; hidden characters stand out as <span class="sign">. */
export function written(text) {
  if (!text) return [];
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) parts.push(text.slice(from, match.index));
    parts.push(el("span", { class: "sign" }, name(match[0])));
    from = match.index + match[0].length;
    if (parts.length > 2000) break;
  }
  // A text of nothing but such signs: the rest is marked too, without a node for each.
  if (from < text.length) parts.push(text.slice(from).replace(HIDDEN, name));
  return parts;
}

const LONGEST = 20000;

/** A block of model-written text, or of highlighted tokens [[class, text], …]. Long ones open on demand. */
export function code(text, tokens = null, label = "text") {
  const block = el("pre", { class: "code", tabindex: "0", dir: "ltr", "aria-label": label });
  const total = text ? text.length : 0;
  if (tokens && total <= LONGEST) {
    block.append(...tokens.map(([kind, piece]) => (kind ? el("span", { class: `t-${kind}` }, written(piece)) : written(piece))).flat());
    return block;
  }
  block.append(...written((text || "").slice(0, LONGEST)));
  if (total <= LONGEST) return block;
  const more = el("button", { type: "button", class: "plain" }, `first ${integer(LONGEST)} of ${integer(total)} characters; show more`);
  let shown = LONGEST;
  more.addEventListener("click", () => {
    block.append(...written(text.slice(shown, shown + 10 * LONGEST)));
    shown += 10 * LONGEST;
    if (shown >= total) more.remove();
    else more.textContent = `first ${integer(shown)} of ${integer(total)} characters; show more`;
  });
  return el("div", {}, block, more);
}

export const inline = (text, longest = 160) =>
  el("code", { class: "inline", dir: "ltr" }, written((text || "").slice(0, longest)), (text || "").length > longest ? "…" : "");

/** A wide table in a box that scrolls sideways, by keyboard too. */
export const scrolled = (label, ...children) =>
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);

export const integer = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
export const percent = (value, digits = 0) => (isNumber(value) ? `${(100 * value).toFixed(digits)}%` : "–");
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
}

export function bytes(value) {
  if (!isNumber(value)) return "–";
  return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(2)} GiB` : `${(value / 2 ** 20).toFixed(0)} MiB`;
}

export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(seconds < 600 ? 1 : 0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function moment(text) {
  if (!text) return "–";
  const time = new Date(text);
  const day = time.toLocaleDateString("en-CA");
  const clock = time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return el("time", { datetime: text, title: text }, `${day} ${clock}`);
}

/** How a metric's value is written: by its name, in one place for tiles, legends and tables. */
export function show(metric, value) {
  if (!isNumber(value)) return "–";
  if (metric.startsWith("seconds/")) return duration(value);
  if (metric.endsWith("_bytes")) return bytes(value);
  if (SHARES.some((start) => metric.startsWith(start))) return percent(value, 1);
  return Number.isInteger(value) && Math.abs(value) < 1e6 ? integer(value) : number(value);
}

const SHARES = [
  "propose/valid", "propose/repeated", "propose/cut", "solve/rate", "solve/parsed", "solve/in_between",
  "diversity/unique", "diversity/trivial", "diversity/reference_distance", "tasks/solved_",
  "update/zero_advantage", "update/importance_capped", "update/clip_fraction",
];
export const isShare = (metric) => SHARES.some((start) => metric.startsWith(start));

// What a number means: a hover and a focus on every name, from docs/metrics.md.

import { $, el } from "./dom.js";
import { get } from "./data.js";

let table = {};
get("metrics").then((found) => (table = found)).catch(() => {});

export function explain(metric) {
  if (table[metric]) return table[metric];
  for (let end = metric.lastIndexOf("/"); end > 0; end = metric.lastIndexOf("/", end - 1)) {
    const found = table[`${metric.slice(0, end)}/*`];
    if (found) return found;
  }
  return null;
}

/** A name that explains itself. */
export function term(metric, text) {
  return el("span", { class: "term", tabindex: "0", "data-help": metric }, text);
}

function open(node) {
  const found = explain(node.dataset.help);
  const tip = $("tip");
  if (!found) return;
  const lines = [el("strong", {}, node.dataset.help), el("div", {}, plain(found.what))];
  if (found.unit) lines.push(el("div", { class: "quiet" }, `Unit: ${plain(found.unit)}`));
  if (found.good) lines.push(el("div", { class: "quiet" }, plain(found.good)));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  node.setAttribute("aria-describedby", "tip");
  const box = node.getBoundingClientRect();
  const width = Math.min(340, innerWidth - 16);
  tip.style.width = `${width}px`;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  const below = box.bottom + 6;
  tip.style.top = `${below + tip.offsetHeight < innerHeight ? below : Math.max(8, box.top - tip.offsetHeight - 6)}px`;
}

const plain = (text) => text.replaceAll("`", "");

function close(node) {
  node?.removeAttribute?.("aria-describedby");
  $("tip").hidden = true;
}

for (const [event, act] of [["mouseover", open], ["focusin", open], ["mouseout", close], ["focusout", close]])
  document.addEventListener(event, (happened) => {
    const node = happened.target.closest?.("[data-help]");
    if (node) act(node);
  });
addEventListener("keydown", (event) => event.key === "Escape" && close(document.activeElement));
addEventListener("scroll", () => ($("tip").hidden = true), { passive: true });

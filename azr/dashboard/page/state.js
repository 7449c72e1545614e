// The view, in the address: what is chosen can be shared, and the browser's back button works.

const listeners = new Set();

export function state() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** The address of this view with some choices changed; null or "" leaves a choice out. */
export function address(changes, keep = true) {
  const query = new URLSearchParams(keep ? location.search : "");
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(key);
    else query.set(key, value);
  }
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

export function go(changes, { replace = false, keep = true } = {}) {
  const target = address(changes, keep);
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  tell();
}

export function onChange(listener) {
  listeners.add(listener);
}

function tell() {
  for (const listener of listeners) listener();
}

addEventListener("popstate", tell);

// Links with data-go change the view without loading the page; they stay links for new tabs and for the keyboard.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  tell();
});

// What the page knows: fetched from /api, kept fresh by /api/stream.

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  const text = query.toString();
  const answer = await fetch(`api/${path}${text ? `?${text}` : ""}`);
  const body = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw new Error(body.error || `${answer.status}`);
  return body;
}

/** Tells runs apart, those of other workspaces too, where numbers begin anew. */
export const identity = (run) => `${run.id} ${run.name} ${run.started}`;

/** The columns of one run, extended as steps arrive. Steps that a resume rolled back are forgotten. */
export class Series {
  constructor(run) {
    this.run = run;
    this.start = 0;
    this.steps = [];
    this.columns = {};
    this.names = new Set();
    this.queue = Promise.resolve();
  }

  /** Have these columns, up to the newest step. Requests go one after another, so that none overtakes. */
  want(names) {
    this.queue = this.queue.catch(() => {}).then(() => this.fetch(names));
    return this.queue;
  }

  async fetch(names) {
    const added = names.filter((name) => !this.names.has(name));
    if (added.length) {
      const all = [...this.names, ...added];
      this.take(await get(`runs/${this.run}/series`, { names: all.join(",") }), all, -1);
      this.names = new Set(all);
      return;
    }
    const after = this.steps.length ? this.steps.at(-1) : -1;
    const all = [...this.names];
    const found = await get(`runs/${this.run}/series`, { names: all.join(","), after });
    if (found.start === this.start) this.take(found, all, after);
    else this.take(await get(`runs/${this.run}/series`, { names: all.join(",") }), all, -1);
  }

  take(found, names, after) {
    if (after < 0) {
      this.steps = [];
      this.columns = {};
    }
    this.start = found.start;
    const before = this.steps.length;
    for (const step of found.steps) this.steps.push(step);
    for (const name of names) {
      const column = (this.columns[name] ??= new Array(before).fill(null));
      const values = found.columns[name];
      for (let i = 0; i < found.steps.length; i++) column.push(values ? values[i] : null);
    }
  }

  last(name) {
    const column = this.columns[name];
    if (!column) return [null, null];
    for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return [column[i], this.steps[i]];
    return [null, null];
  }
}

/** Follows the server's events for as long as the page is open; `on` maps event kinds to listeners. */
export function follow(on, connection) {
  let lastId = "";
  let heard = Date.now();
  let source = null;
  const open = () => {
    source?.close();
    heard = Date.now();
    source = new EventSource(`api/stream${lastId ? `?last_event_id=${lastId}` : ""}`);
    source.onopen = () => connection(true);
    source.onerror = () => connection(false);
    for (const kind of ["reset", "status", "progress", "changed", "beat"])
      source.addEventListener(kind, (event) => {
        heard = Date.now();
        if (event.lastEventId) lastId = event.lastEventId;
        connection(true);
        on[kind]?.(JSON.parse(event.data));
      });
  };
  open();
  // The browser reconnects by itself, except after an answer that is no stream, or when a connection dies in silence.
  setInterval(() => {
    if (Date.now() - heard < 4000) return;
    connection(false);
    open();
  }, 1000);
}

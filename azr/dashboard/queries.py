"""What the interface tells of a store: one function a question, each returns JSON values.

Lists come newest first in pages: `next` is the `before` of the next page, null at the end. Long texts are cut in lists
(`clipped` tells how long they are); the single task and proposal carry them whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from azr.evaluation.core import interval
from azr.records import pairs_shown
from azr.store import Store, told_samples

PAGE = 50  # rows, unless `limit` asks for fewer
LONGEST_IN_LIST = 1500  # characters of one text
Row = dict[str, Any]

OUTCOMES = {
    "all_solved": "solve_rate = 1",
    "some_solved": "solve_rate > 0 AND solve_rate < 1",
    "none_solved": "solve_rate = 0",
    "not_attempted": "solve_rate IS NULL",
}
_TASK_COLUMNS = "step, idx, task_id, type, origin, solve_rate, difficulty, message, program, pairs"
# The inputs and outputs of a task's pairs, one a line: searched without the JSON around them and without the gold.
_VALUES = """(SELECT group_concat(json_extract(value, '$.input') || char(10) || json_extract(value, '$.output'),
    char(10)) FROM json_each(pairs))"""
_PROPOSAL_COLUMNS = "step, idx, type, status, task_id, solve_rate, reward, advantage, tokens, stop_reason, reason"


def runs(store: Store) -> list[Row]:
    """Every run with its newest step and its newest start; first the one that was started or resumed last."""
    return [
        _parsed(row, "model")
        for row in store.query(
            """SELECT id, name, started, finished, status, model, seed, host,
            (SELECT MAX(step) FROM steps WHERE steps.run = runs.id) AS step,
            (SELECT MAX(id) FROM starts WHERE starts.run = runs.id) AS start,
            json_extract(config, '$.train.steps') AS steps
            FROM runs ORDER BY start DESC"""
        )
    ]


def newest_run(store: Store) -> Row | None:
    """{"id", "status", "step"} of the run that was started or resumed last."""
    found = store.query(
        """SELECT id, status, (SELECT MAX(step) FROM steps WHERE run = runs.id) AS step
        FROM runs WHERE id = (SELECT run FROM starts ORDER BY id DESC LIMIT 1)"""
    )
    return found[0] if found else None


def run(store: Store, run_id: int) -> Row | None:
    """One run with its configuration, versions and every start of its process."""
    found = store.query("SELECT * FROM runs WHERE id = ?", run_id)
    if not found:
        return None
    starts = store.query("SELECT * FROM starts WHERE run = ? ORDER BY id", run_id)
    parsed = _parsed(found[0], "config", "versions", "model")
    return parsed | {"starts": [_parsed(start, "versions") for start in starts]}


def steps(store: Store, run_id: int, after: int | None, limit: int) -> list[Row]:
    """Rows of `steps` in ascending order: the first beyond `after`, or the newest if `after` is None."""
    order, bound = ("DESC", -1) if after is None else ("ASC", after)
    rows = store.query(
        f"SELECT step, recorded, metrics, timings FROM steps WHERE run = ? AND step > ? ORDER BY step {order} LIMIT ?",
        run_id,
        bound,
        limit,
    )
    return sorted((_parsed(row, "metrics", "timings") for row in rows), key=lambda row: row["step"])


def events(store: Store, run_id: int) -> Row:
    """`rows`: the newest 200 alarms and notes. Of all there are: how many `alarms`, the `newest_alarm`, and what the
    `executor` said of itself; the last two may be None.
    """
    select = "SELECT id, step, recorded, kind, text FROM events WHERE run = ?"
    of_kind = f"{select} AND kind = ? ORDER BY id DESC LIMIT 1"
    alarm, executor = (store.query(of_kind, run_id, kind) for kind in ("alarm", "executor"))
    alarms = store.query("SELECT COUNT(*) AS alarms FROM events WHERE run = ? AND kind = 'alarm'", run_id)[0]
    return alarms | {
        "newest_alarm": alarm[0] if alarm else None,
        "executor": executor[0]["text"] if executor else None,
        "rows": store.query(f"{select} ORDER BY id DESC LIMIT 200", run_id),
    }


def tasks(store: Store, run_id: int, query: Mapping[str, str]) -> Row:
    """A page of tasks. Filters: type, outcome (see OUTCOMES), origin, step, q (part of program, message or a value)."""
    where, values = _filters(query, ("type", "origin"), ("program", "message", _VALUES))
    if query.get("outcome") in OUTCOMES:
        where.append(OUTCOMES[query["outcome"]])
    page = _page(store, "tasks", _TASK_COLUMNS, run_id, where, values, query)
    for row in page["rows"]:
        _task(row)
        _clip(row, "program", "message")
        row["pairs"] = row["pairs"][:2]
        for pair in row["pairs"]:
            _clip(pair, "input", "output")
    return page


def task(store: Store, run_id: int, task_id: str, step: int | None) -> Row | None:
    """One task at one step (its newest by default), with that step's attempts and the other steps that have it."""
    found = store.query(
        f"SELECT {_TASK_COLUMNS} FROM tasks WHERE run = ? AND task_id = ? ORDER BY step DESC", run_id, task_id
    )
    chosen = [row for row in found if step is None or row["step"] == step]
    if not chosen:
        return None
    attempts = store.query(
        """SELECT idx, correct, status, reward, advantage, tokens, stop_reason, logprob_mean, logprob_min, reason,
        answer, text FROM attempts WHERE run = ? AND task_id = ? AND step = ? ORDER BY idx""",
        run_id,
        task_id,
        chosen[0]["step"],
    )
    proposals = store.query(
        f"SELECT {_PROPOSAL_COLUMNS} FROM proposals WHERE run = ? AND task_id = ? ORDER BY step, idx LIMIT 20",
        run_id,
        task_id,
    )
    return _task(chosen[0]) | {
        "steps": sorted(row["step"] for row in found),
        "attempts": attempts,
        "proposals": proposals,
    }


def proposals(store: Store, run_id: int, query: Mapping[str, str]) -> Row:
    """A page of proposals. Filters: status (valid, vacuous, repeated, invalid), type, step, q (text or reason)."""
    where, values = _filters(query, ("type", "status"), ("text", "reason"))
    columns = f"{_PROPOSAL_COLUMNS}, program, message, text"
    page = _page(store, "proposals", columns, run_id, where, values, query)
    for row in page["rows"]:
        _clip(row, "program", "message", "text", "reason")
    return page


def proposal(store: Store, run_id: int, step: int, index: int) -> Row | None:
    found = store.query("SELECT * FROM proposals WHERE run = ? AND step = ? AND idx = ?", run_id, step, index)
    return _parsed(found[0], "inputs", "refs") if found else None


def evaluations(store: Store, run_id: int) -> list[Row]:
    """Evaluations of a run's checkpoints, and those that belong to no run: untrained models, ready-made solutions.

    Counted from the samples that were executed. `score` is the mean over the problems of the share of right samples,
    `low` and `high` its interval at 95%; all None without samples. `missing`: samples that the result was told of and
    that are not there.
    """
    rows = store.query(
        """SELECT id, run, step, subject, benchmark, protocol, protocol_hash, started, finished, result,
        COUNT(rate) AS problems, COALESCE(SUM(samples), 0) AS samples, COALESCE(SUM(correct), 0) AS correct,
        AVG(rate) AS score
        FROM evaluations LEFT JOIN (
            SELECT evaluation, COUNT(*) AS samples, SUM(correct) AS correct, AVG(correct) AS rate
            FROM evaluation_samples WHERE status != 'unscored' GROUP BY evaluation, task_id
        ) AS counted ON counted.evaluation = evaluations.id
        WHERE run = ? OR run IS NULL GROUP BY id ORDER BY benchmark, protocol_hash, step""",
        run_id,
    )
    for row in rows:
        _parsed(row, "protocol", "result")
        low, high = (None, None) if row["score"] is None else interval(row["score"], row["problems"])
        row |= {"low": low, "high": high, "missing": max(0, told_samples(row["result"] or {}) - row["samples"])}
    return rows


def evaluation_problems(store: Store, evaluation: int) -> list[Row]:
    """Executed samples and right ones per problem, and how the first wrong one failed."""
    return store.query(
        """SELECT task_id, COUNT(*) AS samples, SUM(correct) AS correct,
        COALESCE(MIN(CASE WHEN NOT correct THEN status END), 'ok') AS status
        FROM evaluation_samples WHERE evaluation = ? AND status != 'unscored' GROUP BY task_id""",
        evaluation,
    )


def evaluation_problem(store: Store, evaluation: int, task_id: str) -> list[Row]:
    return store.query(
        "SELECT * FROM evaluation_samples WHERE evaluation = ? AND task_id = ? ORDER BY sample", evaluation, task_id
    )


def version(store: Store) -> tuple[Any, ...]:
    """Changes whenever there is something new to show."""
    newest = store.query(
        """SELECT (SELECT MAX(id) FROM starts) AS start, (SELECT MAX(id) FROM events) AS event,
        (SELECT COUNT(*) || ' ' || COALESCE(MAX(id), 0) || ' ' || COALESCE(MAX(finished), '') FROM evaluations)
        AS evaluation"""
    )[0]
    return (*newest.values(), *(newest_run(store) or {}).values())


def _filters(
    query: Mapping[str, str], equal: tuple[str, ...], searched: tuple[str, ...]
) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    for name in equal:
        if query.get(name):
            where.append(f"{name} = ?")
            values.append(query[name])
    if query.get("step"):
        where.append("step = ?")
        values.append(int(query["step"]))
    if query.get("q"):
        pattern = "%" + query["q"].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in searched) + ")")
        values += [pattern] * len(searched)
    return where, values


def _page(
    store: Store, table: str, columns: str, run_id: int, where: list[str], values: list[Any], query: Mapping[str, str]
) -> Row:
    if query.get("before"):
        step, _, index = query["before"].partition(".")
        where, values = [*where, "(step, idx) < (?, ?)"], [*values, int(step), int(index or 0)]
    size = max(1, min(int(query.get("limit") or PAGE), PAGE))
    condition = " AND ".join(["run = ?", *where])
    rows = store.query(
        f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY step DESC, idx DESC LIMIT ?",
        run_id,
        *values,
        size + 1,
    )
    more = len(rows) > size
    rows = rows[:size]
    return {"rows": rows, "next": f"{rows[-1]['step']}.{rows[-1]['idx']}" if more else None}


def _task(row: Row) -> Row:
    """`shown`: how many of the pairs the solver sees; the rest are hidden. The judge's gold stays where it is."""
    _parsed(row, "pairs", "difficulty")
    row["pairs"] = [{"input": pair["input"], "output": pair["output"]} for pair in row["pairs"]]
    row["shown"] = pairs_shown(len(row["pairs"]))
    row["total_pairs"] = len(row["pairs"])
    return row


def _parsed(row: Row, *names: str) -> Row:
    for name in names:
        if row[name] is not None:
            row[name] = json.loads(row[name], strict=False)
    return row


def _clip(row: Row, *names: str) -> None:
    for name in names:
        text = row[name]
        if text is not None and len(text) > LONGEST_IN_LIST:
            row[name] = text[:LONGEST_IN_LIST]
            row.setdefault("clipped", {})[name] = len(text)

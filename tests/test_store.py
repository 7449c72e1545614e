"""The store: what goes in comes out, a rollback takes everything after the step, readers do not stop the writer."""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import WEIRD, completion, config, step_rows, task
from stored_rows import dump_rows, newest_run

from azr import schema
from azr.errors import UserError
from azr.records import Attempt, Proposal
from azr.rows import (
    AttemptRow,
    EvaluationSampleRow,
    ProposalRow,
    decode_text,
    encode_text,
    from_json,
    stored_config,
    task_from_json,
    task_to_json,
    to_json,
)
from azr.store import Evaluation, Run, Store

ANY_TEXT = st.text(st.one_of(st.characters(exclude_categories=[]), st.sampled_from("\0␛\ud800\udfff0")))
TABLES = ("runs", "starts", "steps", "proposals", "tasks", "attempts", "events", "evaluations", "evaluation_samples")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "azr.sqlite")


def start(store: Store, steps: int = 0) -> Run:
    run = store.start_run(config(seed=7), {"azr": "0.1"}, {"parameters": 135})
    for step in range(1, steps + 1):
        run.record_step(step, **step_rows(f"s{step}"))
    return run


def sample(task_id: str, index: int) -> EvaluationSampleRow:
    return EvaluationSampleRow(task_id, index, WEIRD, None, "no_code", False, 5, "length", 0.5)


def test_a_step_comes_back_as_it_went_in(store: Store) -> None:
    run = start(store)
    rows = step_rows("a", WEIRD)
    run.record_step(1, **rows)
    stored = store.query("SELECT * FROM proposals ORDER BY idx")
    assert [row["status"] for row in stored] == ["valid", "invalid"]
    assert stored[0]["text"] == WEIRD + "a"
    assert stored[0]["task_id"] == rows["tasks"][0].task.id
    assert (stored[0]["tokens"], stored[0]["logprob_min"]) == (3, -1.0)
    assert stored[0]["logprob_mean"] == pytest.approx(-1.75 / 3)
    assert (stored[1]["program"], stored[1]["reason"], stored[1]["solve_rate"]) == (None, "no_program: no block", None)
    row = store.query("SELECT * FROM tasks")[0]
    assert task_from_json({**row, "pairs": json.loads(row["pairs"])}) == rows["tasks"][0].task
    assert json.loads(row["difficulty"]) == {"nodes": 7}
    attempts = store.query("SELECT * FROM attempts ORDER BY idx")
    assert [(row["correct"], row["status"], row["answer"]) for row in attempts] == [
        (1, "ok", "'xa'"),
        (0, "malformed", None),
    ]
    assert attempts[0]["text"] == WEIRD


def test_a_repeated_proposal_has_its_own_status() -> None:
    made = task("a")
    row = ProposalRow(Proposal("deduction", (1,), completion(""), (), task=made, repeated=True))
    assert row.status == "repeated"


@given(ANY_TEXT)
def test_text_survives_and_is_storable(text: str) -> None:
    encoded = encode_text(text)
    assert decode_text(encoded) == text
    assert "\0" not in encoded
    assert sqlite3.connect(":memory:").execute("SELECT ?", (encoded,)).fetchone() == (encoded,)
    assert from_json(to_json({text: [text]})) == {text: [text]}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0␛")))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert encode_text(text) == text


@given(ANY_TEXT, ANY_TEXT, st.binary(max_size=20))
def test_a_task_survives_json(program: str, message: str, gold: bytes) -> None:
    made = task(program, message)
    made = type(made)("induction", program, (type(made.pairs[0])(message, program, gold),) * 3, message)
    assert task_from_json(from_json(to_json(task_to_json(made)))) == made


def test_queries_find_text_that_had_to_be_escaped(store: Store) -> None:
    start(store).record_step(1, **step_rows("a", WEIRD))
    assert len(store.query("SELECT 1 FROM attempts WHERE text = ?", WEIRD)) == 1


def test_long_lines_and_fences_are_kept_whole(store: Store) -> None:
    text = "```python\n```" + "x" * 1_000_000
    start(store).record_step(1, **step_rows("a", text))
    assert store.query("SELECT text FROM attempts WHERE idx = 0")[0]["text"] == text


def test_numbers_that_are_not_finite_become_null_with_a_warning(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    run = start(store)
    rows = step_rows("a")
    rows["proposals"][0] = ProposalRow(rows["proposals"][0].proposal, 0.5, float("-inf"), float("nan"))
    with caplog.at_level(logging.WARNING):
        run.record_step(1, **rows | {"metrics": {"loss": float("nan"), "ok": 1.0}, "timings": {"s": float("inf")}})
    assert json.loads(store.query("SELECT metrics FROM steps")[0]["metrics"]) == {"loss": None, "ok": 1.0}
    assert json.loads(store.query("SELECT timings FROM steps")[0]["timings"]) == {"s": None}
    stored = store.query("SELECT reward, advantage FROM proposals WHERE idx = 0")[0]
    assert stored == {"reward": None, "advantage": None}
    event = store.query("SELECT * FROM events")[0]
    assert (event["kind"], event["step"]) == ("non_finite", 1)
    for name in ("metrics.loss = nan", "timings.s = inf", "proposals[0].reward = -inf"):
        assert name in event["text"]
    assert "not finite" in caplog.text


def test_a_step_is_all_or_nothing(store: Store) -> None:
    run = start(store, steps=1)
    rows = step_rows("b")
    rows["attempts"].append(AttemptRow(Attempt(task("elsewhere"), (1,), completion(""), None), None, None, None))
    with pytest.raises(sqlite3.IntegrityError):  # its task is not among the step's tasks: our bug
        run.record_step(2, **rows)
    assert [row["step"] for row in store.query("SELECT step FROM steps")] == [1]
    assert {row["step"] for row in store.query("SELECT step FROM proposals")} == {1}
    run.record_step(2, **step_rows("b"))


def test_a_step_is_recorded_once(store: Store) -> None:
    run = start(store, steps=1)
    with pytest.raises(sqlite3.IntegrityError):
        run.record_step(1, **step_rows("again"))


def resume(store: Store, run: Run, after_step: int) -> Run:
    return store.resume_run(
        run.id, after_step, name=run.name, config=run.config, versions=run.versions, describe={"parameters": 135}
    )


def test_resuming_rolls_back_every_later_row_and_no_other(store: Store) -> None:
    other, run = start(store, steps=4), start(store, steps=4)
    for step in range(1, 5):
        run.record_event(step, "alarm", f"alarm {step}")
        Evaluation.open(store, f"{run.name}/{step}", "mbpp", {}, "h", run=run.id, step=step).record([sample("1", 0)])
    base = Evaluation.open(store, "untrained", "mbpp", {}, "h", run=run.id)
    base.record([sample("1", 0)])
    run.finish("failed")
    untouched = dump_rows(other)
    resumed = resume(store, run, 2)
    for table in ("steps", "proposals", "tasks", "attempts", "events"):
        assert {row["step"] for row in dump_rows(resumed)[table]} == {1, 2}, table
    assert [row["step"] for row in dump_rows(resumed)["evaluations"]] == [1, 2, None]
    assert len(dump_rows(resumed)["evaluation_samples"]) == 3
    assert dump_rows(other) == untouched
    assert store.query("SELECT status, finished FROM runs WHERE id = ?", run.id) == [
        {"status": "running", "finished": None}
    ]
    assert store.query("SELECT after_step FROM starts WHERE run = ?", run.id)[-1] == {"after_step": 2}
    assert store.query("PRAGMA foreign_key_check") == []


def test_a_run_resumed_equals_one_that_went_through(store: Store) -> None:
    through, resumed = start(store, steps=4), start(store, steps=3)
    resumed = resume(store, resumed, 2)
    for step in (3, 4):
        resumed.record_step(step, **step_rows(f"s{step}") | {"timings": {"seconds": 99.0, "memory": 1.0}})
    assert dump_rows(resumed) == dump_rows(through)


def test_dumps_differ_where_the_runs_did(store: Store) -> None:
    one, two = start(store, steps=2), start(store, steps=1)
    two.record_step(2, **step_rows("other"))
    assert dump_rows(one) != dump_rows(two)
    assert dump_rows(one)["steps"][0] == dump_rows(two)["steps"][0]


def test_resuming_what_the_database_does_not_hold_is_refused(store: Store) -> None:
    run = start(store, steps=2)
    with pytest.raises(UserError, match="no step 5"):
        resume(store, run, 5)
    with pytest.raises(UserError, match="does not know elsewhere"):
        store.resume_run(run.id, 1, name="elsewhere", config=run.config, versions={}, describe={})
    assert len(dump_rows(run)["steps"]) == 2


def test_a_run_that_was_killed_is_no_longer_running(store: Store) -> None:
    killed = start(store)
    start(store)
    assert store.query("SELECT status FROM runs WHERE id = ?", killed.id) == [{"status": "interrupted"}]


def test_run_names_differ_within_a_second(store: Store) -> None:
    assert len({start(store).name for _ in range(3)}) == 3


def test_the_same_event_is_one_row(store: Store) -> None:
    run = start(store)
    for _ in range(2):
        run.record_event(3, "alarm", WEIRD)
    assert [row["text"] for row in store.query("SELECT text FROM events")] == [WEIRD]


def test_the_dashboard_token_is_never_stored(tmp_path: Path) -> None:
    secret = config().model_copy(update={"dashboard": config().dashboard.model_copy(update={"token": "s3cret"})})
    assert "s3cret" not in json.dumps(stored_config(secret))


def test_an_evaluation_goes_on_from_its_samples(store: Store) -> None:
    def open_evaluation(protocol_hash: str = "h") -> Evaluation:
        return Evaluation.open(store, "untrained smollm2", "mbpp", {"k": 1}, protocol_hash)

    first = open_evaluation()
    first.record([sample("MBPP/1", 0), sample("MBPP/1", 1)])
    again = open_evaluation()
    assert again.id == first.id
    assert again.done() == {("MBPP/1", 0), ("MBPP/1", 1)}
    again.record([sample("MBPP/1", 1), sample("MBPP/2", 0)])
    assert len(store.query("SELECT * FROM evaluation_samples")) == 3
    assert open_evaluation("another protocol").done() == set()
    again.finish({"pass@1": 0.0})
    assert json.loads(store.query("SELECT result FROM evaluations WHERE id = ?", first.id)[0]["result"]) == {
        "pass@1": 0.0
    }


def test_a_subset_does_not_stand_for_the_whole(store: Store) -> None:
    whole = Evaluation.open(store, "untrained", "mbpp", {}, "h")
    whole.record([sample(str(n), 0) for n in range(4)])
    for told, kept in ((4, 4), (2, 4), (5, 5)):
        whole.finish({"samples": told, "score": told})
        [row] = store.query("SELECT result FROM evaluations WHERE id = ?", whole.id)
        assert json.loads(row["result"])["samples"] == kept


def test_a_fresh_sample_does_not_replace_a_scored_one(store: Store) -> None:
    """Two processes may evaluate the same model: the later one's completion must not undo the other's score."""
    evaluation = Evaluation.open(store, "untrained", "mbpp", {}, "h")
    evaluation.record([sample("1", 0)])
    late = replace(sample("1", 0), status="unscored", completion="of the other process")
    evaluation.record([late, replace(late, sample=1)], fresh=True)
    rows = store.query("SELECT status FROM evaluation_samples ORDER BY sample")
    assert [row["status"] for row in rows] == [sample("1", 0).status, "unscored"]


def test_a_reader_sees_committed_steps_and_never_stops_the_writer(store: Store) -> None:
    run = start(store, steps=1)
    with Store.open_readonly(store.path) as reader:
        # A reader in the middle of a transaction is the worst a dashboard can do.
        reader._connection.execute("BEGIN")
        assert len(reader.query("SELECT * FROM steps")) == 1
        store._connection.execute("PRAGMA busy_timeout = 0")  # waiting would raise
        for step in range(2, 6):
            run.record_step(step, **step_rows(f"s{step}"))
        assert len(reader.query("SELECT * FROM steps")) == 1
        reader._connection.execute("COMMIT")
        assert len(reader.query("SELECT * FROM steps")) == 5


def test_a_reader_cannot_write(store: Store) -> None:
    start(store)
    with Store.open_readonly(store.path) as reader, pytest.raises(UserError, match="cannot be written"):
        newest_run(reader).finish("finished")


def test_reading_before_there_is_a_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no database"):
        Store.open_readonly(tmp_path / "azr.sqlite")


def test_migrations_start_from_any_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "azr.sqlite"
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    store = Store(path)
    run = start(store, steps=1)
    before = dump_rows(run)
    store.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (x INTEGER)",)))
    with pytest.raises(UserError, match="older schema"):
        Store.open_readonly(path)
    store = Store(path)
    assert store.query("SELECT * FROM later") == []
    assert dump_rows(newest_run(store)) == before


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "azr.sqlite"
    Store(path).close()
    broken = ("CREATE TABLE later (x INTEGER)", "CREATE TABLE later (x INTEGER)")
    with monkeypatch.context() as patch, pytest.raises(sqlite3.OperationalError):
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        Store(path)
    store = Store(path)
    assert store.query("SELECT name FROM sqlite_master WHERE name = 'later'") == []


def test_a_newer_database_is_refused(store: Store) -> None:
    store._connection.execute("PRAGMA user_version = 99")
    for opening in (Store, Store.open_readonly):
        with pytest.raises(UserError, match="newer AZR"):
            opening(store.path)


def test_what_is_no_database_of_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, foreign = tmp_path / "text.sqlite", tmp_path / "foreign.sqlite"
    text.write_text("this is a text file, long enough to have what could be a header" * 20)
    sqlite3.connect(foreign).execute("CREATE TABLE mine (x)").connection.close()
    for path in (text, foreign):
        before = path.read_bytes()
        for opening in (Store, Store.open_readonly):
            with pytest.raises(UserError, match="not an AZR database"):
                opening(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM tasks WHERE run = 1 ORDER BY step DESC, idx DESC LIMIT 50",
        "SELECT * FROM tasks WHERE run = 1 AND type = 'induction' ORDER BY step DESC, idx DESC LIMIT 50",
        "SELECT * FROM tasks WHERE run = 1 AND solve_rate = 0 ORDER BY step DESC, idx DESC LIMIT 50",
        "SELECT * FROM tasks WHERE run = 1 AND step = 5 ORDER BY idx",
        "SELECT * FROM tasks WHERE run = 1 AND task_id = 'x' ORDER BY step DESC",
        "SELECT * FROM attempts WHERE run = 1 AND task_id = 'x' ORDER BY step DESC",
        "SELECT * FROM proposals WHERE run = 1 AND status = 'invalid' ORDER BY step DESC, idx DESC LIMIT 50",
        "SELECT * FROM proposals WHERE run = 1 AND type = 'abduction' AND status = 'valid' ORDER BY step DESC LIMIT 50",
        "SELECT * FROM proposals WHERE run = 1 AND task_id = 'x'",
        "SELECT step, metrics, timings FROM steps WHERE run = 1 AND step > 9000 ORDER BY step",
        "DELETE FROM steps WHERE run = 1 AND step > 5",
    ],
)
def test_views_and_rollback_are_served_by_an_index(store: Store, query: str) -> None:
    plan = [row["detail"] for row in store.query(f"EXPLAIN QUERY PLAN {query}")]
    assert all(line.startswith("SEARCH") for line in plan), plan


def test_every_foreign_key_is_indexed(store: Store) -> None:
    """Otherwise deleting one step would scan every attempt."""
    for table in TABLES:
        keys: dict[int, list[str]] = {}
        for row in store.query(f"PRAGMA foreign_key_list({table})"):
            keys.setdefault(row["id"], []).append(row["from"])
        indices = [
            [column["name"] for column in store.query(f"PRAGMA index_info({index['name']})")]
            for index in store.query(f"PRAGMA index_list({table})")
        ]
        for columns in keys.values():
            covered = any(set(index[: len(columns)]) == set(columns) for index in indices)
            assert covered or table in ("starts",), (table, columns)

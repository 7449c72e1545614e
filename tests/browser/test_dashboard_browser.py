"""The dashboard in a real browser: live numbers, resilience, hostile text, benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up_store
from browser_support import (
    PAINTED,
    SOON,
    STATE,
    STEP,
    Start,
    compare_with_store,
    made_up_trainer,
    table_of_steps,
    until,
)
from stored_rows import newest_run

from azr.store import Store


def test_a_run_is_followed_through_a_kill_and_a_resume(page: Any, dashboard: Start, tmp_path: Path) -> None:
    shown = dashboard(tmp_path)
    page.goto(shown.url)
    until(page, f"{STATE} === 'Waiting'")
    until(page, f"document.getElementById('main').textContent.includes('{shown.training_port}')")

    trainer = made_up_trainer(tmp_path, shown.training_port, 60)
    try:
        until(page, f"{STATE} === 'Training' && {STEP} >= 2")
        first = page.evaluate(STEP)
        page.evaluate("window.same_page = true")
        until(page, "document.querySelector('[data-fact=phase]')?.textContent === 'solving'")
        until(page, f"{STEP} >= {first + 2}")
        assert page.evaluate("window.same_page"), "the page was loaded again"
    finally:
        trainer.kill()
        trainer.wait()
    until(page, f"{STATE} === 'Ended without a word'", SOON)
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        last = store.query("SELECT MAX(step) AS step FROM steps")[0]["step"]
        until(page, f"{STEP} === {last}")
        compare_with_store(page, store, run=1, step=last)

    trainer = made_up_trainer(tmp_path, shown.training_port, last + 2, resume_after=2)
    trainer.wait(60)
    until(page, f"{STATE} === 'Finished' && {STEP} === {last + 2}")
    assert page.evaluate("window.same_page")
    steps = table_of_steps(page, "Valid proposals")
    assert steps == list(range(last + 2, 0, -1))[:30]  # nothing doubled, nothing missing
    with Store.open_readonly(tmp_path / "data" / "azr.sqlite") as store:
        compare_with_store(page, store, run=1, step=last + 2)


def test_a_step_recorded_while_the_page_reads_leaves_no_number_behind(
    page: Any, dashboard: Start, tmp_path: Path
) -> None:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        for step in range(1, 6):
            made_up_store.record(run, step, tasks=1, attempts=1)
        later: list[int] = []

        def held(route: Any) -> None:
            answer = route.fetch()  # the newest step is 5, and then no longer
            if answer.json()[0]["step"] == 5 and not later:
                later.append(6)
                made_up_store.record(run, 6, tasks=1, attempts=1)
            route.fulfill(response=answer)

        page.route("**/runs/1/steps?limit=1", held)
        page.goto(dashboard(tmp_path).url)
        until(page, f"{STEP} === 6")
        compare_with_store(page, store, run=1, step=6)
        page.unroute_all(behavior="ignoreErrors")


def test_a_training_of_another_workspace_is_another_run(page: Any, dashboard: Start, tmp_path: Path) -> None:
    """Both are run 1, begun by start 1: what the page holds of the one is nothing that the other goes on from."""
    with Store(tmp_path / "here" / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        for step in range(1, 6):
            made_up_store.record(run, step, tasks=1, attempts=1)
        run.finish("finished")
    shown = dashboard(tmp_path / "here")
    page.goto(shown.url)
    until(page, f"{STEP} === 5")
    trainer = made_up_trainer(tmp_path / "there", shown.training_port, 60)  # long enough to be noticed
    try:
        until(page, f"{STATE} === 'Training' && {STEP} >= 2 && {STEP} !== 5")
    finally:
        trainer.kill()
        trainer.wait()
    with Store.open_readonly(tmp_path / "there" / "data" / "azr.sqlite") as store:
        last = store.query("SELECT MAX(step) AS step FROM steps")[0]["step"]
        until(page, f"{STATE} === 'Ended without a word' && {STEP} === {last}")
        assert table_of_steps(page, "Valid proposals") == list(range(last, 0, -1))[:30]
        [first] = store.query("SELECT name FROM runs WHERE id = 1")
        assert first["name"] == page.locator("#run option").first.inner_text().removesuffix(" ●")


def test_the_page_outlives_the_dashboards_server(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(shown.url)
    until(page, PAINTED)
    shown.stop()
    until(page, "document.getElementById('connection').textContent.includes('does not answer')", SOON)
    assert page.evaluate(STEP) == 10
    with Store(workspace / "data" / "azr.sqlite") as store:
        made_up_store.record(newest_run(store), 11)
        shown.start()
        until(page, f"{STEP} === 11")
        with store.transaction() as connection:
            connection.execute("DELETE FROM steps WHERE step = 11")
    assert page.inner_text("#connection") == "● live"


def test_what_the_model_wrote_is_text(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    for view in ("tasks", "proposals", "runs"):
        page.goto(f"{shown.url}?view={view}")
        until(page, "document.querySelectorAll('main tbody tr').length")
        check_layout(page)
        until(page, "document.getElementById('main').textContent.includes('onerror=')")
    for step in range(1, 11):
        hostile = made_up_store.HOSTILE[step % len(made_up_store.HOSTILE)]
        page.goto(f"{shown.url}?view=tasks&step={step}")
        until(page, "document.querySelectorAll('main tbody tr').length")
        page.locator("tr", has_text="def f(x)").first.locator("a").first.click()
        until(page, "document.querySelectorAll('.attempt').length")
        check_layout(page)
        text = page.evaluate("[...document.querySelectorAll('.attempt .code')].map((node) => node.textContent).join()")
        assert text.startswith(as_text(hostile)[:200])


def as_text(text: str) -> str:
    """The beginning of what the page shows for it."""
    for sign, shown in (("\x1b", "ESC"), ("\0", "NUL"), ("\x07", "BEL"), ("\r", "CR"), ("\b", "BS")):
        text = text.replace(sign, f"‹{shown}›")
    for code in (0x202E, 0x202C, 0x2066, 0x2069, 0x200B, 0xD800):
        text = text.replace(chr(code), f"‹{code:04X}›")
    return text


def check_layout(page: Any) -> None:
    assert (
        page.evaluate("document.querySelectorAll('main img, main script, main svg:not(.interval), iframe').length") == 0
    )
    assert "owned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.evaluate("document.body.scrollHeight") < 60_000


def test_benchmark_scores_are_counts_of_stored_samples(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(f"{shown.url}?view=benchmarks&run=2&evaluation=2")
    until(page, "document.querySelectorAll('.problem').length")
    shown_scores = page.evaluate(
        "[...document.querySelectorAll('[data-evaluation]')].map((node) => [node.dataset.evaluation, node.textContent])"
    )
    with Store.open_readonly(workspace / "data" / "azr.sqlite") as store:
        rows = store.query("SELECT evaluation, AVG(correct) AS score FROM evaluation_samples GROUP BY evaluation")
    assert dict(shown_scores) == {str(row["evaluation"]): f"{100 * row['score']:.1f}%" for row in rows}
    assert page.locator(".problem").count() == 20
    text = page.inner_text("main")
    assert "untrained smollm2-135m" in text and "GPT-4 technical report" in text
    assert "EvalPlus leaderboard" not in text  # another protocol


def test_a_score_without_its_samples_is_not_shown(page: Any, dashboard: Start, tmp_path: Path) -> None:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        made_up_store.add_evaluations(store, run)
        with store.transaction() as connection:
            connection.execute("DELETE FROM evaluation_samples WHERE evaluation = 2 AND task_id = 'HumanEval/3'")
            connection.execute("UPDATE evaluation_samples SET status = 'unscored' WHERE evaluation = 3")
    page.goto(f"{dashboard(tmp_path).url}?view=benchmarks")
    until(page, "document.querySelectorAll('[data-evaluation]').length")
    shown = page.evaluate("[...document.querySelectorAll('[data-evaluation]')].map((node) => node.dataset.evaluation)")
    assert shown == ["1"]
    text = page.inner_text("main")
    assert "1 of its samples are missing" in text and "20 of its samples are missing" in text


def test_benchmarks_stay_as_they_are_read_and_their_curve_follows_the_theme(
    page: Any, dashboard: Start, tmp_path: Path
) -> None:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        made_up_store.add_evaluations(store, run)
        page.goto(f"{dashboard(tmp_path).url}?view=benchmarks&evaluation=2")
        until(page, "document.querySelectorAll('.problem').length && document.querySelectorAll('.curve canvas').length")
        page.locator(".problem").nth(3).focus()
        for step in (2, 3):
            made_up_store.record(run, step, tasks=1, attempts=1)
            until(page, f"{STEP} === {step}")
        assert page.evaluate("document.activeElement.classList.contains('problem')"), "what had the focus was replaced"
        picture = "document.querySelector('.curve canvas').toDataURL()"
        before = page.evaluate(picture)
        page.click("#theme")
        until(page, f"{picture} !== {before!r}")
        assert page.evaluate("document.querySelectorAll('.curve canvas').length") == 1


def test_low_scores_fill_their_curve(page: Any, dashboard: Start, tmp_path: Path) -> None:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        made_up_store.add_evaluations(store, run, right=(1, 2, 2), comparable=[])
    page.goto(f"{dashboard(tmp_path).url}?view=benchmarks")
    until(page, "document.querySelectorAll('.curve canvas').length")
    drawn = """(() => {
        const canvas = document.querySelector(".curve canvas"), wide = canvas.width, high = canvas.height;
        const { data } = canvas.getContext("2d").getImageData(wide / 2, 0, 1, high);
        return [...Array(high).keys()].filter((y) => data[4 * y + 3] && Math.max(...data.slice(4 * y, 4 * y + 3)) -
            Math.min(...data.slice(4 * y, 4 * y + 3)) > 60).map((y) => y / high);
    })()"""
    until(page, f"{drawn}.length > 0")
    assert page.evaluate(f"Math.min(...{drawn})") < 0.4  # the interval of 2 in 20 ends at 30%


def test_a_view_that_there_is_not_is_the_overview(page: Any, dashboard: Start, workspace: Path) -> None:
    page.goto(f"{dashboard(workspace).url}?view=toString")
    until(page, f"{STEP} > 0")
    assert page.locator("#tabs [aria-current=page]").inner_text() == "Overview"

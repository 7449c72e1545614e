"""Can everybody read the page, and does every number say what it is: accessibility, keyboard, address, hovers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up_store
import pytest
from browser_support import PAINTED, STEP, VIEWS, Start, made_up_trainer, until

from azr.store import Store


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_every_view_is_accessible(browser: Any, dashboard: Start, workspace: Path, theme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    shown = dashboard(workspace)
    # bypass_csp is for axe, which is put into the page as a script; the other tests keep the policy.
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    task = "task"
    for view in (*VIEWS, task):
        page.goto(f"{shown.url}?view={'tasks' if view == task else view}&compare=1")
        until(page, PAINTED)
        if view == task:
            page.locator("main tbody a").first.click()
            until(page, "document.querySelectorAll('.attempt').length")
        page.wait_for_timeout(100)
        found = axe.run(page).response["violations"]
        serious = [
            (one["id"], [node["html"][:150] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} scrolls sideways"
    context.close()


def test_the_view_is_in_the_address_and_the_keyboard_reaches_it(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(shown.url)
    until(page, PAINTED)
    page.get_by_role("link", name="Tasks", exact=True).focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('main tbody tr').length")
    page.get_by_label("Outcome").select_option("all_solved")
    page.get_by_label("Type").select_option("deduction")
    until(page, "location.search.includes('type=deduction') && location.search.includes('outcome=all_solved')")
    page.wait_for_timeout(300)
    rows = page.inner_text("main tbody")
    other = page.context.new_page()
    other.goto(page.url)
    until(other, "document.querySelectorAll('main tbody tr').length")
    assert other.inner_text("main tbody") == rows
    assert "abduction" not in rows
    page.go_back()
    until(page, "document.querySelector('h1').textContent === 'Overview'")
    page.locator("#run").select_option("1")
    until(page, "location.search.includes('run=1')")


def test_the_filters_say_what_the_list_holds(page: Any, dashboard: Start, workspace: Path) -> None:
    page.goto(f"{dashboard(workspace).url}?view=tasks&step=3&q=return")
    until(page, "document.querySelectorAll('main tbody tr').length")
    page.get_by_label("Type").select_option("induction")
    until(page, "document.querySelectorAll('main tbody .type').length === 1")
    page.get_by_role("link", name="Tasks", exact=True).click()
    until(page, "document.querySelectorAll('main tbody .type').length > 1")
    form = "[...document.querySelectorAll('.filters [name]')].map((field) => field.value).join()"
    until(page, f"{form} === ',,,'")
    page.go_back()
    until(page, f"{form} === 'induction,,3,return'")


def test_updates_leave_the_keyboard_where_it_is(page: Any, dashboard: Start, tmp_path: Path) -> None:
    shown = dashboard(tmp_path)
    trainer = made_up_trainer(tmp_path, shown.training_port, 200)
    try:
        page.goto(shown.url)
        for place in ("#status [data-help=step]", "#tabs a[aria-current]", "main tbody a"):
            until(page, f"document.querySelector('{place}') && {STEP} >= 1")
            page.locator(place).first.focus()
            page.evaluate("window.focused = document.activeElement")
            step = page.evaluate(STEP)
            until(page, f"{STEP} >= {step + 2}")
            assert page.evaluate("document.activeElement === window.focused"), place
    finally:
        trainer.kill()
        trainer.wait()


def test_smoothing_is_a_trailing_mean(page: Any, dashboard: Start, workspace: Path) -> None:
    page.goto(dashboard(workspace).url)
    until(page, PAINTED)
    smoothed = page.evaluate("import('./charts.js').then(({ smooth }) => smooth([2, 4, null, 8, 0], 2))")
    assert smoothed == [2, 3, None, 6, 4]


def test_a_duration_keeps_two_digits(page: Any, dashboard: Start, workspace: Path) -> None:
    """Else a step of 91 seconds looks like one of 149."""
    page.goto(dashboard(workspace).url)
    until(page, PAINTED)
    shown = page.evaluate("(many) => import('./dom.js').then(({ duration }) => many.map(duration))", [89, 91, 149, 690])
    assert shown == ["89 s", "1.5 min", "2.5 min", "12 min"]


def test_no_hidden_sign_goes_unmarked(page: Any, dashboard: Start, workspace: Path) -> None:
    page.goto(dashboard(workspace).url)
    until(page, PAINTED)
    read = """(text) => import('./dom.js').then(({ written, el }) => {
        const node = el('p', {}, written(text)); return [node.textContent, node.childNodes.length]; })"""
    hidden = (
        "\x1b\x7f\xad\u034f\u061c\u115f\u180e\u200b\u2028\u202e\u2066\u3164\ufe0f\ufeff\uffa0\ufffb\U000e0041\U000e0100"
    )
    names = {0x1B: "ESC", 0x7F: "DEL"}
    marked = "".join(f"‹{names.get(ord(sign), f'{ord(sign):04X}')}›" for sign in hidden)
    assert page.evaluate(read, hidden)[0] == marked
    text, nodes = page.evaluate(read, "a\u202e" * 100_000)
    assert text == "a‹202E›" * 100_000
    assert nodes < 5_000  # a text of nothing but signs costs no node for each
    plain = "tab\tline\nä ا e\u0301 😀 字"
    assert page.evaluate(read, plain) == [plain, 1]


def test_two_runs_are_drawn_over_each_other(page: Any, dashboard: Start, workspace: Path) -> None:
    page.goto(f"{dashboard(workspace).url}?run=2&compare=1&smooth=1")
    until(page, PAINTED)
    plot = "[...document.querySelectorAll('.plot')].find((node) => node.ariaLabel?.startsWith('Diversity')).chart.plot"
    until(page, f"{plot}?.data.length === 9")
    drawn = page.evaluate(
        f"{plot}.series.slice(1).map((one, i) => [one.show, !!one._paths?.stroke, !!one.dash, {plot}.data[i + 1]])"
    )
    assert [compared for *_, compared, _ in drawn] == [False] * 4 + [True] * 4
    assert all(shown and stroked for shown, stroked, *_ in drawn)
    with Store.open_readonly(workspace / "data" / "azr.sqlite") as store:
        rows = store.query(
            """SELECT json_extract(metrics, '$."diversity/unique_programs"') AS value FROM steps
            WHERE run IN (1, 2) AND step <= 10 ORDER BY run DESC, step"""
        )
    both = [*drawn[3][3], *drawn[7][3]]  # the first name of a panel is drawn last
    assert both == pytest.approx([row["value"] for row in rows], rel=1e-5)


def test_two_runs_and_their_differences(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    page.goto(f"{shown.url}?view=runs&run=2&compare=1")
    until(page, "document.querySelectorAll('tr.differs').length")
    differing = page.locator("tr.differs th").all_inner_texts()
    assert differing == ["train.seed"]


# Texts with a digit that no name explains: a number's name stands in its fact, tile, legend, list entry, column head.
UNEXPLAINED = """() => {
    const apart = "code, pre, time, select, a, h1, h2, h3, summary, svg, th[scope=row], [hidden], .at, .sr, "
        + ".wide.quiet, .references, .config";
    const places = ".fact, .tile, .legend li, .meta > div, .attempt header";
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!/\\d/.test(walker.currentNode.data) || !node.closest("#status, main") || node.closest(apart)) continue;
        const cell = node.closest("td, th");
        const heads = cell?.closest("table").querySelectorAll("thead th") ?? [];
        const place = heads[cell?.cellIndex] ?? node.closest(places) ?? node;
        const legend = node.closest("figure")?.querySelector(".legend [data-help]");
        if (!place.querySelector("[data-help]") && !legend)
            found.push(`${walker.currentNode.data.trim()} in ${node.outerHTML.slice(0, 120)}`);
    }
    return found;
}"""


def test_hovers_explain_every_number(page: Any, dashboard: Start, workspace: Path) -> None:
    shown = dashboard(workspace)
    single = ("tasks&task", "proposals&proposal")
    for view in (*VIEWS, "benchmarks&evaluation=2&problem=HumanEval/3", *single):
        name, _, chosen = view.partition("&")
        page.goto(f"{shown.url}?view={name}{'' if view in single else '&' + chosen}")
        until(page, PAINTED)
        if view in single:
            page.locator("main tbody a").first.click()
            until(page, "document.querySelectorAll('main .meta').length")
        page.wait_for_timeout(100)
        names = page.evaluate("[...document.querySelectorAll('[data-help]')].map((node) => node.dataset.help)")
        known = page.evaluate(
            """async (names) => { const { explain } = await import('./help.js');
            await new Promise((done) => setTimeout(done, 100)); return names.filter((name) => !explain(name)); }""",
            names,
        )
        assert not known, f"{view}: not in docs/metrics.md"
        assert page.evaluate(UNEXPLAINED) == [], view
    page.goto(shown.url)
    until(page, PAINTED)
    page.locator("main [data-help='solve/rate']").first.focus()
    until(page, "!document.getElementById('tip').hidden")
    assert "solve/rate" in page.inner_text("#tip")


@pytest.mark.parametrize("status", ["running", "finished", "interrupted", "failed"])
def test_the_strip_keeps_its_height_in_every_state(page: Any, dashboard: Start, tmp_path: Path, status: str) -> None:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        run = made_up_store.start(store)
        made_up_store.record(run, 1, tasks=1, attempts=1)
        run.finish(status)
    page.goto(dashboard(tmp_path).url)
    until(page, PAINTED)
    height, background = page.evaluate(
        "(({height}, {backgroundColor}) => [height, backgroundColor])(...[document.querySelector('#status .pill')]"
        ".flatMap((pill) => [pill.getBoundingClientRect(), getComputedStyle(pill)]))"
    )
    assert height < 40
    assert background != "rgba(0, 0, 0, 0)"

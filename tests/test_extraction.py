"""Reading programs and literals out of what a model wrote."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.evaluation import extraction
from azr.evaluation.extraction import (
    code_blocks,
    complete,
    defined_names,
    drop_main_checks,
    extract_arguments,
    extract_literal,
    extract_program,
    parses,
    put_before,
)

ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "text",
    [
        ADD,
        f"Here you go:\n\n```python\n{ADD}\n```\nIt adds.",
        f"```py\n{ADD}\n```",
        f"```\n{ADD}\n```",
        f"~~~python\n{ADD}\n~~~",
        f"<think>maybe ```python\ndef add(a, b):\n    return a - b\n``` no</think>\n```python\n{ADD}\n```",
        f"Wrong first try:\n```python\ndef add(a, b):\n    return a\n```\nBetter:\n```python\n{ADD}\n```",
        f"```python\n{ADD}\n```\nUsage:\n```python\nprint(add(1, 2))\n```",
        f"```bash\npip install x\n```\n```python\n{ADD}\n```",
        f"```python\n{ADD}\n",  # the block never ends
        f"Sure. The function:\n\n{ADD}\n\nThat is all.",
        f"<answer>\n{ADD}\n</answer>",
        f"<think>hm</think><answer>```python\n{ADD}\n```",
    ],
)
def test_the_program_is_found(text: str) -> None:
    found = extract_program(text, "add")
    assert found.reason == ""
    assert found.solution is not None
    namespace: dict[str, object] = {}
    exec(found.solution, namespace)
    assert namespace["add"](2, 3) == 5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "truncated", "reason"),
    [
        ("", False, "no_code"),
        ("I cannot do that.", False, "no_code"),
        ("<think>still thinking", True, "truncated"),
        ("<think>never an end", False, "no_code"),
        ("```python\ndef add(a, b)\n    return\n```", False, "syntax_error"),
        ("```python\ndef add(a, b):\n    return (a +", True, "truncated"),
        ("def add(a, b) return a", False, "syntax_error"),
    ],
)
def test_what_is_no_program_has_its_reason(text: str, truncated: bool, reason: str) -> None:
    found = extract_program(text, "add", truncated)
    assert (found.solution, found.reason) == (None, reason)


def test_helpers_in_a_block_of_their_own_are_kept() -> None:
    helper, add = "def helper(x):\n    return x + 1", "def add(a, b):\n    return helper(a) + b - 1"
    text = f"```python\n{helper}\n```\nand\n```python\n{add}\n```"
    # The last block defines the entry, but on its own it is not the program that the model wrote.
    found = extract_program(text, "add")
    assert found.solution is not None
    assert defined_names(found.solution) == {"helper", "add"}


def test_an_example_of_a_call_is_no_helper() -> None:
    """It has names in common with the program that are the program's own variables."""
    program = "def add(a, b):\n    result = a + b\n    return result"
    text = f"Call it so:\n```python\nresult = add(1, 2)\nprint(result)\n```\n```python\n{program}\n```"
    assert extract_program(text, "add").solution == program


def test_of_a_block_with_helpers_the_example_is_left_out() -> None:
    helper = "LIMIT = 3\n\ndef one(a):\n    return a + LIMIT"
    text = f"```python\n{helper}\n\ntotal = f(2)\n```\n```python\ndef f(total):\n    return one(total)\n```"
    found = extract_program(text, "f").solution
    assert found is not None and "def one" in found and "LIMIT = 3" in found and "f(2)" not in found


@pytest.mark.parametrize(
    "text",
    [
        "1. Do this:\n\n   ```python\n   def f(a):\n       return a + 1\n   ```\n2. Done.",
        "```python\ndef f(a):\n    return a + 1\n\nThis adds one.",
        "```python\ndef f(a):\n    return a + 1```",
        "```python\ndef f(a):\n    return a + 1\n```\n<answer>print(f(3))</answer>",
        "```python\ndef f(a):\n    return a + 1\n```\n<answer>x = 5</answer>",
        "In <answer> tags. Draft: ```python\ndef f(a):\n    return a\n``` Wait."
        " <answer>\ndef f(a):\n    return a + 1\n</answer>",
        "```python\ndef f(a):\n    return a + 1\n\ndef test_f():\n    assert f(1) == 3\n\ntest_f()\n```",
        "```python\ndef f(a):\n    return a + 1\n\nfor a, e in [(1, 9)]:\n    assert f(a) == e\n```",
    ],
)  # fmt: skip
def test_a_right_program_in_an_untidy_answer_is_found_and_runs(text: str) -> None:
    found = extract_program(text, "f").solution
    assert found is not None
    names: dict[str, Any] = {}
    exec(found, names)
    assert names["f"](1) == 2


USED = "def g(n):\n    return h(n)"


@pytest.mark.parametrize(
    "helper",
    [
        "MOD = 10**9 + 7\ndef h(n):\n    return n % MOD",
        "INF = float('inf')\nV = set('aeiou')\ndef h(n):\n    return min(n, INF), V",
        "memo: dict = {}\ndef h(n):\n    return memo.setdefault(n, n)",
        "from collections import namedtuple\nP = namedtuple('P', 'x')\ndef h(n):\n    return P(n).x",
        "D = {c: i for i, c in enumerate('abc')}\ndef h(n):\n    return D, n",
        "h = lambda n: n + 1",
        "from functools import lru_cache\nfast = lru_cache(None)\n@fast\ndef h(n):\n    return n",
        "class H:\n    def go(self, n):\n        return n\nobj = H()\ndef h(n):\n    return obj.go(n)",
        "sieve = [True] * 9\nfor i in range(2, 9):\n    for j in range(i * i, 9, i):\n        sieve[j] = False\n"
        "def h(n):\n    return sieve[n]",
        "A = []\nA += [1]\ndef h(n):\n    return A[0] + n",
        "try:\n    from math import isqrt as h\nexcept ImportError:\n    h = int",
        "import sys\nsys.setrecursionlimit(5000)\ndef h(n):\n    return sys.getrecursionlimit() + n",
    ],
)  # fmt: skip
def test_a_helper_keeps_what_it_needs(helper: str) -> None:
    found = extract_program(f"```python\n{helper}\nprint(g(2))\nx = g(3)\n```\n```python\n{USED}\n```", "g").solution
    assert found is not None
    names: dict[str, Any] = {}
    exec(found, names)
    assert "x" not in names
    wanted: dict[str, Any] = {}
    exec(f"{helper}\n{USED}", wanted)
    assert str(names["g"](2)) == str(wanted["g"](2))


def test_imports_constants_and_a_builtins_name_come_along() -> None:
    for first, second in (
        ("import math", "def g(n):\n    return math.sqrt(n)"),
        ("MOD = 10**9 + 7", "def g(n):\n    return n % MOD"),
        ("def pow(a, b):\n    return a + b", "def g(n):\n    return pow(n, 3)"),
    ):
        found = extract_program(f"```python\n{first}\n```\n```python\n{second}\n```", "g").solution
        assert found is not None and found.startswith(first)
    example = "list = [1, 2]\nresult = g(list)"  # shadows a builtin, for the example's own sake
    program = "def g(n):\n    return list(n)"
    assert extract_program(f"```python\n{example}\n```\n```python\n{program}\n```", "g").solution == program


def test_a_future_import_stays_first() -> None:
    program = "from __future__ import annotations\n\ndef f(a):\n    return one(a)"
    text = f"```python\ndef one(a):\n    return a\n```\n```python\n{program}\n```"
    found = extract_program(text, "f").solution
    assert found is not None and found.startswith("from __future__") and "def one" in found and parses(found)
    assert put_before("'doc'\nfrom __future__ import annotations\nx = 1", "import re\n").split("\n")[2:] == [
        "import re", "x = 1",
    ]  # fmt: skip
    assert put_before("x = 1", "import re\n") == "import re\nx = 1"


def test_the_last_answer_counts() -> None:
    first, last = "def f(a):\n    return a", "def f(a):\n    return a + 1"
    for mention in (
        "I put it between the <answer> tags.",
        "See `<answer>`.",
        "<answer></answer>",
        "<answer> and </answer>",
    ):
        assert extract_program(f"<answer>{last}</answer> {mention}", "f").solution == last
    text = f"<answer>{first}</answer> No, wait. <answer>{last}</answer>"
    assert extract_program(text, "f").solution == last
    assert extract_literal("<answer>1</answer> <answer>2</answer>").solution == "2"


@pytest.mark.parametrize(
    "kept",
    ["TABLE = (1, 2, 3)", "evens = (n for n in range(9))", "import sys\nsys.setrecursionlimit(10_000)", "X: int = 3"],
)
def test_what_a_function_may_need_is_kept(kept: str) -> None:
    source = f"{kept}\n{ADD}\nassert add(1, 2) == 4\nprint(add(1, 2))\nif __name__ == '__main__':\n    main()"
    cleaned = drop_main_checks(source, "add")
    assert kept in cleaned
    assert "assert" not in cleaned and "print" not in cleaned and "__main__" not in cleaned


def test_a_check_leaves_what_shares_its_line() -> None:
    source = f"import math; assert True\nprint('é'); x = 1\r\n{ADD}\nassert add(1, 2) == 3  # fine\rassert True; y = 2"
    assert drop_main_checks(source, "add") == f"import math; pass\npass; x = 1\n{ADD}\npass; y = 2"


def test_a_program_for_standard_input_is_left_alone() -> None:
    source = "n = int(input())\nprint(n * 2)"
    assert extract_program(f"```python\n{source}\n```").solution == source
    assert drop_main_checks(source, "") == source


STUB = 'def add(a, b):\n    """Add."""\n'


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("    return a + b\n", 5),
        ("    return a + b\n\nThis adds the numbers, as asked", 5),
        ("    c = a + b\n    return c\n\ndef broken(", 5),
        ("    return a + b\n```\nexplanation", 5),
    ],
)
def test_a_completion_goes_as_far_as_it_parses(completion: str, expected: int) -> None:
    found = complete(STUB, completion, "add")
    assert found.solution is not None
    namespace: dict[str, object] = {}
    exec(found.solution, namespace)
    assert namespace["add"](2, 3) == expected  # type: ignore[operator]


def test_a_completion_without_a_body_is_no_solution() -> None:
    assert complete(STUB, "", "add").reason == "no_code"
    assert complete(STUB, "    return (a +", "add").reason == "syntax_error"
    assert complete(STUB, "    return (a +", "add", truncated=True).reason == "truncated"
    assert complete(STUB, "and then words", "add").solution is None


def test_code_blocks_within_text() -> None:
    assert code_blocks("```python\na\n```\n```json\nb\n```\n```\nc\n```") == ["a", "c"]
    assert code_blocks("no fence") == []


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("[1, 2]", "[1, 2]"),
        ("[ANSWER]\n'x'\n[/ANSWER]", "'x'"),
        ("<think>2?</think> <answer>3</answer>", "3"),
        ("assert f([1]) == {'a': 1}", "{'a': 1}"),
        ("f(1) == 2", "2"),
        ("```python\n(1, 2)\n```", "(1, 2)"),
        ("`'x'`", "'x'"),
    ],
)
def test_literals(text: str, literal: str) -> None:
    found = extract_literal(text).solution
    assert found is not None
    assert ast.literal_eval(found) == ast.literal_eval(literal)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("f([1], 2)", "[1], 2"),
        ("assert f('a') == 3", "'a'"),
        ("f('a') == 3", "'a'"),
        ("<answer>f()</answer>", None),
        ("[1], 2", "[1], 2"),
        ("g(1)", "g(1)"),  # not `f`: no literal, and the judge will say so
        ("f(x=1)", "f(x=1)"),
    ],
)
def test_arguments(text: str, arguments: str | None) -> None:
    assert extract_arguments(text).solution == arguments


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for found in (extract_program(text, "f"), complete("def f():\n", text, "f"), extract_literal(text)):
        assert (found.solution is None) == bool(found.reason)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000,
        "[" * 100_000,
        "```python\n" * 500,
        "-" * 150_000 + "1",
        "def f(" * 3_000,
        "def f(a):\n    return a\na" + ".b" * 1_500 + "()",
        *(f"f({x}) == {x}" for x in ("0x" + "f" * 4_000, "1+" * 1_500 + "1", "-" * 1_500 + "1", "a" + ".b" * 1_500)),
    ],
)
def test_hostile_text_is_read_in_time(text: str) -> None:
    """Whatever it is, an answer of some kind comes out: what Python parses it may not be able to write again."""
    assert extract_program(text, "f").solution or extract_program(text, "f").reason
    completed = complete("def f():\n    pass\n", text, "f")
    assert completed.solution or completed.reason
    assert extract_literal(text).solution or extract_literal(text).reason
    assert extract_arguments(text).solution or extract_arguments(text).reason


def test_too_long_text_is_cut() -> None:
    assert not extraction.parses("x = 1\n" * 100_000)

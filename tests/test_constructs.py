"""The constructs of Python that a program uses."""

from __future__ import annotations

import pytest

from azr.constructs import CONSTRUCTS, constructs


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def f(x): return x + 1", set()),
        ("def f(xs): return [x % 2 for x in sorted(xs)]", {"comprehension", "modulo", "sort"}),
        ("def f(s): return ''.join(c.upper() for c in s[::2])", {"comprehension", "slice", "string"}),
        ("def f(n):\n    for i in n:\n        while i:\n            i -= 1", {"for", "while", "nested loop"}),
        ("def f(n): return 1 if n < 2 else f(n - 1)", {"if", "recursion"}),
        ("def f(d): return {k: v for k, v in d.items()}", {"dict", "tuple"}),
        ("def f(:", set()),
    ],
)
def test_constructs_by_hand(program: str, expected: set[str]) -> None:
    assert constructs(program) == expected <= set(CONSTRUCTS)

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.minimise import minimise
from azr.program import is_trivial, normal_form, parse, reads_first_argument, shape, tokens

SUM = "def f(nums):\n    total = 0\n    for n in nums:\n        total += n\n    return total"
RENAMED = 'def f(xs: list) -> int:\n    """Adds."""\n    t=0\n    for x in xs:   # go\n        t += x\n    return t'


def test_names_layout_docstrings_and_annotations_do_not_matter() -> None:
    assert normal_form(SUM) == normal_form(RENAMED)


def test_constants_matter_to_the_normal_form_only() -> None:
    one, two = "def f(x):\n    return x + 1", "def f(y):\n    return y + 2"
    assert normal_form(one) != normal_form(two)
    assert shape(one) == shape(two)
    assert shape(one) != shape("def f(x):\n    return x + 'a'")


def test_builtins_and_structure_matter() -> None:
    assert normal_form("def f(x):\n    return min(x)") != normal_form("def f(x):\n    return max(x)")
    assert shape("def f(x, y):\n    return x - y") != shape("def f(x, y):\n    return y - x")


@pytest.mark.parametrize(
    "source",
    [
        "def f(a):\n    return a",
        "def f(a, b):\n    'doc'\n    return b",
        "def f(a):\n    return 5",
        "def f(a):\n    x = 3\n    return x * 2",
        "def f(a):\n    pass",
        "def f():\n    return 'x'",
    ],
)
def test_trivial(source: str) -> None:
    assert is_trivial(source)


@pytest.mark.parametrize("source", [SUM, "def f(a):\n    return a + 0", "def f(a):\n    return [a]", "def f(", "x = 1"])
def test_not_trivial(source: str) -> None:
    assert not is_trivial(source)


@given(st.text(max_size=60))
def test_any_text_has_a_normal_form(text: str) -> None:
    assert normal_form(text) == normal_form(text)


@pytest.mark.parametrize("source", ["\0", "\ud800", "(" * 5000, "x" * 100_000])
def test_hostile_text_is_only_text(source: str) -> None:
    assert normal_form(source)
    assert not is_trivial(source)


@pytest.mark.parametrize("digits", [3_570, 3_571, 3_600, 20_000])
def test_a_number_that_python_cannot_print_is_no_program(digits: int) -> None:
    """Python reads hexadecimal numbers of any length, and prints whole ones of 4,300 decimal digits."""
    source = f"def f(x):\n    return x + 0x{'f' * digits}"
    assert (parse(source) is None) == (digits > 3_570)
    assert normal_form(source) and tokens(source)
    assert (minimise(source) is None) == (digits > 3_570)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from math import sqrt, floor\ndef f(x):\n    return sqrt(x)",
         "from math import sqrt, floor\ndef f(x):\n    return floor(x)"),
        *[tuple(
            f"class T:\n    def {name}(self):\n        return 1\n    def {more}(self):\n        return 2\n"
            "def f(x):\n    return T().a()" for name, more in (("a", "b"), ("b", "a"))
        )],
        ("class T:\n    a = 1\n    b = 2\ndef f(x):\n    return T.a + x",
         "class T:\n    b = 1\n    a = 2\ndef f(x):\n    return T.a + x"),
    ],
)  # fmt: skip
def test_names_that_stand_for_something_else_are_not_renamed(one: str, other: str) -> None:
    """Else two programs that do different things would be one, and the second a repeat."""
    assert normal_form(one) != normal_form(other)


def test_keywords_are_names_of_the_programs_own_functions_only() -> None:
    one, other = "def f(xs, key):\n    return sorted(xs, key=key)", "def f(xs, k):\n    return sorted(xs, key=k)"
    assert normal_form(one) == normal_form(other)
    assert normal_form(one) != normal_form("def f(xs, k):\n    return sorted(xs, reverse=k)")
    for one, other in (
        ("class P:\n    def __init__(self, x):\n        self.q = x\ndef f(n):\n    return P(x=n).q", "x"),
        ("class P:\n    def g(self, width):\n        return width\ndef f(n):\n    return P().g(width=n)", "width"),
        ("class P:\n    def g(self, width):\n        return width\ndef f(n):\n    return P().g(width=n)", "n"),
        ("def f(n):\n    h = lambda q: q\n    return h(q=n)", "q"),
    ):
        assert normal_form(one) == normal_form(re.sub(rf"(?<!\.)\b{other}\b", "other", one))
    own = "def g(a, b):\n    return a - b\ndef f(x):\n    return g(b=x, a=1)"
    assert normal_form(own) == normal_form(own.replace("a", "c"))
    assert normal_form(own) != normal_form(own.replace("b=x, a=1", "a=x, b=1"))


@pytest.mark.parametrize(
    ("program", "reads"),
    [
        ("def f(a, b):\n    return b * a", True),
        ("def f(a, /, b):\n    return [x for x in a]", True),
        ("def f(a, b):\n    return b", False),
        ("def f(a, b):\n    a = b\n    return b", False),  # written, not read
        ("def g(a):\n    return a\ndef f(b):\n    return 1", False),
        ("def f(*a):\n    return a", False),
        ("def f():\n    return 1", False),
        ("x = 1", False),
        ("def f(", False),
    ],
)
def test_a_first_argument_is_read_or_not(program: str, reads: bool) -> None:
    assert reads_first_argument(program) is reads

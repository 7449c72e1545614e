"""Hollow programs and their honest look-alikes, written by hand; near copies and programs that are none."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator

import pytest

from azr.config import ExecutorConfig
from azr.executor import Executor, ValidationRequest
from azr.minimise import minimise
from azr.probing import Probe, probe
from azr.records import Pair, Task
from azr.vacuity import COPY, Recent, grams, similarity, why_vacuous

# (hollow, honest, argument list): the two look alike, and run on the same input.
PAIRS = [
    ("def f(a):\n    return a", "def f(a):\n    return a * 2", "[1, 2]"),
    ("def f(x):\n    return x if x != 11 else 0", "def f(x):\n    return x if x > 3 else -x", "0"),
    ("def f(x):\n    return 5 if 3 in (1, 2, 4) else 5", "def f(x):\n    return 5 if x in (1, 2, 4) else x", "4"),
    ("def f(n):\n    return 'five'\n    return n", "def f(n):\n    return 'five' * n\n    return n", "2"),
    ("def f(n):\n    if n == 0:\n        return 'no'\n    return 'no'",
     "def f(n):\n    if n % 2 == 0:\n        return 'no'\n    return 'yes'", "4"),
    ("def f(s):\n    return s + ''", "def f(s):\n    return s + '!'", "'abc'"),
    ("def f(n):\n    y = n * 3\n    return n", "def f(n):\n    y = n * 3\n    return y - 1", "7"),
    ("def f(xs):\n    for x in xs:\n        pass\n    return xs",
     "def f(xs):\n    t = 0\n    for x in xs:\n        t += x\n    return t", "[4, 5, 6]"),
    ("def f(xs):\n    return [x for x in xs]", "def f(xs):\n    return [x + 1 for x in xs]", "[4, 5]"),
    ("def f(d, k):\n    return d", "def f(d, k):\n    return d.get(k)", "{'a': 1, 'b': 2}, 'a'"),
    ("def f(a, b):\n    return b", "def f(a, b):\n    return a - b", "4, 9"),
    ("def f(x):\n    return x * 0", "def f(x):\n    return x * 10", "3"),
    ("def f(x):\n    return x ** 0", "def f(x):\n    return x ** 2", "3"),
    ("def f(x):\n    return x - x", "def f(x):\n    return x + x", "3"),
    ("def f(s):\n    return len(s) * 0 + 7", "def f(s):\n    return len(s) * 2 + 7", "'hello'"),
    ("def f(s):\n    return s[:]", "def f(s):\n    return s[1:]", "'hello'"),
    ("def f(s):\n    return s[::-1][::-1]", "def f(s):\n    return s[::-1]", "'hello'"),
    ("def f(xs):\n    return list(reversed(list(reversed(xs))))", "def f(xs):\n    return list(reversed(xs))",
     "[1, 2, 3]"),
    ("def f(n):\n    while n > 10 ** 9:\n        n -= 1\n    return n",
     "def f(n):\n    while n > 3:\n        n -= 2\n    return n", "8"),
    ("def f(n):\n    try:\n        return 'ok'\n    except ValueError:\n        return n",
     "def f(n):\n    try:\n        return 10 // n\n    except ZeroDivisionError:\n        return n", "5"),
    ("def f(x, y):\n    if x > y:\n        return 'done'\n    else:\n        return 'done'",
     "def f(x, y):\n    if x > y:\n        return x % 7\n    else:\n        return y - x", "3, 9"),
    ("def f(name):\n    'Greets.'\n    return 'hello'", "def f(name):\n    'Greets.'\n    return 'hi ' + name", "'A'"),
    ("def f(text):\n    words = text.split()\n    count = len(words)\n    return 'text'",
     "def f(text):\n    words = text.split()\n    count = len(words)\n    return count", "'a bc d'"),
    ("def f(x):\n    g = lambda v: v\n    return g(x)", "def f(x):\n    g = lambda v: v * v\n    return g(x)", "6"),
    ("def f(x):\n    def g(v):\n        return v\n    return g(g(x))",
     "def f(x):\n    def g(v):\n        return v + 3\n    return g(g(x))", "6"),
    ("def f(a):\n    b = []\n    for i in range(a):\n        b.append(i * 2)\n    return a",
     "def f(a):\n    b = []\n    for i in range(a):\n        b.append(i * 2)\n    return b", "4"),
    ("def f(n):\n    if n > 10 ** 12:\n        return n * 2\n    return 1",
     "def f(n):\n    if n > 4:\n        return n * 2\n    return 1 - n", "4"),
    ("def f(d):\n    return {k: v for k, v in d.items()}", "def f(d):\n    return {v: k for k, v in d.items()}",
     "{'a': 1, 'b': 2}"),
    ("def f(s):\n    return s.replace('zzz', '')", "def f(s):\n    return s.replace('a', '')", "'banana'"),
    ("def f(x):\n    return int(x)", "def f(x):\n    return float(x) / 2", "12"),
    ("def f(n):\n    return n and n or n", "def f(n):\n    return n and n + 1 or -1", "3"),
    ("def f(x):\n    return x / 2\n\ndef f(x):\n    return x * 2",
     "def g(x):\n    return x / 2\n\ndef f(x):\n    return g(x) * 2", "6"),
    ("def f(xs, k):\n    t = 0\n    for x in xs:\n        t += 0\n    return t",
     "def f(xs, k):\n    t = 0\n    for x in xs:\n        t += x * k\n    return t", "[1, 2, 3], 2"),
    ("def f(n):\n    a = n + 1\n    b = a * a\n    c = b - a\n    e = c // 2\n    g = [b, c, e]\n    return n * 2",
     "def f(n):\n    a = n + 1\n    b = a * a\n    c = b - a\n    e = c // 2\n    g = [b, c, e]\n    return g", "3"),
    # The own input is sorted already: what sorts it is no idle code all the same.
    ("import heapq\ndef f(xs):\n    len(xs)\n    return xs",
     "import heapq\ndef f(xs):\n    heapq.heapify(xs)\n    return xs",
     "[1, 2, 3]"),
    ("def f(xs):\n    sorted(xs)\n    return xs", "def f(xs):\n    list.sort(xs)\n    return xs", "[1, 2, 3]"),
    ("def g(xs):\n    return sorted(xs)\n\ndef f(xs):\n    ys = sorted(xs)\n    return xs",
     "def g(xs):\n    xs.sort()\n\ndef f(xs):\n    g(xs)\n    return xs", "[1, 2, 3]"),
    ("def f(xs):\n    ys = xs[:]\n    ys.sort()\n    return xs",
     "def f(xs):\n    ys = xs\n    ys.sort()\n    return xs",
     "[1, 2, 3]"),
    ("def f(xs):\n    ys = list(xs)\n    ys += [1]\n    return xs",
     "def f(xs):\n    ys = xs\n    ys += [1]\n    return xs",
     "[1, 2, 3]"),
    ("class T:\n    def go(self, xs):\n        return sorted(xs)\ndef f(xs):\n    T().go(xs)\n    return xs",
     "class T:\n    def go(self, xs):\n        xs.sort()\ndef f(xs):\n    T().go(xs)\n    return xs", "[1, 2, 3]"),
    ("def f(num):\n    return 0 if num == 0 else num", "def f(num):\n    return 0 if num < 3 else num * num", "5"),
    ("def f(x):\n    if x:\n        return x\n    return x",
     "def f(x):\n    if x:\n        return [x]\n    return x", "4"),
    ("def f(xs):\n    xs.sort(key=lambda v: 0)\n    return xs",
     "def f(xs):\n    xs.sort(key=lambda v: -v)\n    return xs", "[3, 1, 2]"),
    ("def f(x, k):\n    return max(x, x)", "def f(x, k):\n    return max(x, k) - min(x, k)", "3, 8"),
    ("def f(a, b):\n    return a, b, b, a, 2", "def f(a, b):\n    return a, b + 1, b, a, 2", "'L', 10"),
    ("def f(s, n):\n    return n, s, n if n == 1 else n",
     "def f(s, n):\n    return n, s, n if n < 9 else s", "'ab', 10"),
    ("def f(n):\n    return n * n, n, n, n, n, n, n, n, n, n, n, n, n, n",
     "def f(n):\n    return n * n, n, n - 1, -n", "6"),
    ("def f(k, v):\n    d = {k: [v, 0]}\n    return d", "def f(k, v):\n    d = {k: [*v, 0]}\n    return d", "'k', [3]"),
    ("def f(s, n):\n    n = n\n    return s, n",
     "def f(s, n):\n    if n > len(s):\n        n = len(s)\n    return s, n", "'ab', 10"),
    ("def f(s):\n    t = ''\n    for c in s:\n        t += c\n    return t",
     "def f(s):\n    t = ''\n    for c in s:\n        t = c + t\n    return t", "'hello'"),
]  # fmt: skip

BASES = [
    "def f(nums):\n    total = 0\n    for n in nums:\n        if n % 2 == 0:\n            total += n\n    return total",
    "def f(s, k):\n    return [w[::-1] for w in s.split() if len(w) > k]",
    "def f(x, y):\n    while y:\n        x, y = y, x % y\n    return x",
    "def f(d, key):\n    if key not in d:\n        return sorted(d)\n    return d[key] * 2",
    "def f(s):\n    out = ''\n    for c in s:\n        out = c.upper() + out\n    return out",
    "def f(a, b):\n    return max(a, b) - min(a, b)",
    "def f(n):\n    if n < 2:\n        return n\n    return f(n - 1) + f(n - 2)",
    "def f(xs):\n    return sorted(set(xs), reverse=True)[:3]",
    "def f(s):\n    return {c: s.count(c) for c in s}",
    "def f(m):\n    return [list(row) for row in zip(*m)]",
]


def renamed(source: str) -> str:
    return source.replace("total", "acc").replace("nums", "values").replace("out", "res").replace("key", "name")


def other_numbers(source: str) -> str:
    return source.replace("2", "7").replace("0", "5").replace("3", "4").replace("''", "'-'")


def reformatted(source: str) -> str:
    head, _, body = source.partition("\n")
    return f'{head.replace("):", ") :")}  # a comment\n    """Says something."""\n{body}\n'


COPIES = [(base, change(base)) for base in BASES for change in (renamed, other_numbers, reformatted)]
DIFFERENT = [(a, b) for i, a in enumerate(BASES) for b in BASES[i + 1 :]]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[tuple[str, str], tuple[Task, Probe | None]]]:
    """Task and probe of every program of PAIRS, by program and input."""
    programs = [(source, text) for hollow, honest, text in PAIRS for source in (hollow, honest)]
    with Executor(ExecutorConfig(lanes=1)) as executor:
        validations = executor.validate([ValidationRequest(source, (text,)) for source, text in programs])
        assert [v.reason for v in validations] == [""] * len(programs)
        probes = probe([(p[0], v.pairs[0]) for p, v in zip(programs, validations, strict=True)], executor)
    tasks = [Task("deduction", p[0], v.pairs) for p, v in zip(programs, validations, strict=True)]
    yield {p: pair for p, pair in zip(programs, zip(tasks, probes, strict=True), strict=True)}


@pytest.mark.parametrize(("hollow", "honest", "text"), PAIRS)
def test_the_hollow_one_is_told_from_its_look_alike(found: dict, hollow: str, honest: str, text: str) -> None:
    assert why_vacuous(*found[hollow, text]) != ""
    assert why_vacuous(*found[honest, text]) == ""


def test_reasons_say_what_is_hollow(found: dict) -> None:
    reasons = {why_vacuous(*found[hollow, text]).partition(":")[0] for hollow, _, text in PAIRS}
    assert reasons == {"constant", "identity", "dead code"}


def induction(*pairs: tuple[str, str, bytes]) -> Task:
    return Task("induction", "def f(x): ...", tuple(Pair(*pair) for pair in pairs), "hint")


def test_induction_is_judged_by_its_pairs() -> None:
    from azr.executor import encode

    same = induction(("1", "0", encode(0)), ("2", "0", encode(0)), ("3", "0", encode(0)))
    echo = induction(("1", "1", encode(1)), ("2", "2", encode(2)))
    real = induction(("1", "2", encode(2)), ("2", "4", encode(4)))
    assert [why_vacuous(task, None).partition(":")[0] for task in (same, echo, real)] == ["constant", "identity", ""]


HONEST = [
    ("def sieve(n):\n    flags = [True] * (n + 1)\n    for i in range(2, n + 1):\n        if flags[i]:\n"
     "            for j in range(i * i, n + 1, i):\n                flags[j] = False\n"
     "    return [i for i in range(2, n + 1) if flags[i]]\n\nPRIMES = sieve(50)\n\ndef f(x):\n"
     "    return [p for p in PRIMES if p < x]", "20"),
    ("class Bank:\n    def __init__(self):\n        self.rows = []\n"
     "    def put(self, n):\n        self.rows.append(n)\n"
     "    def total(self):\n        return sum(self.rows) * 2\n\ndef f(xs):\n    bank = Bank()\n    for x in xs:\n"
     "        bank.put(x)\n    return bank.total()", "[1, 2, 3]"),
    ("def f(s):\n    try:\n        int(s)\n        return True\n    except ValueError:\n        return False", "'12'"),
    ("def f(d, k):\n    try:\n        v = d[k]\n        return 'yes'\n    except KeyError:\n        return 'no'",
     "{'a': 1}, 'a'"),
    ("def f(s, i):\n    try:\n        s[i]\n    except IndexError:\n        return 'out'\n    return 'in'", "'abc', 1"),
    ("def f(xs):\n    n = 0\n    for x in xs:\n        try:\n            v = int(x)\n            n += 1\n"
     "        except ValueError:\n            continue\n    return n", "['1', 'b', '3']"),
    ("def f(s):\n    out = []\n    add = out.append\n    for c in s:\n        if c.isdigit():\n            add(c)\n"
     "    return ''.join(out)", "'a1b2'"),
    ("def each(fn, xs):\n    for x in xs:\n        fn(x)\n\ndef f(xs):\n    out = []\n    each(out.append, xs[1:])\n"
     "    return out", "[1, 2, 3]"),
    ("def f(xs):\n    best = xs[0]\n    def see(v):\n        nonlocal best\n"
     "        best = max(best, v)\n        return best\n"
     "    for x in xs:\n        see(x)\n    return best", "[1, 5, 3]"),
    ("def f(xs):\n    last = None\n    for last in xs:\n        pass\n    return last", "[4, 5, 6]"),
    ("def f(xs):\n    ys = xs + []\n    ys.sort()\n    return xs == ys", "[1, 2, 3]"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "text"), HONEST)
def test_an_honest_program_is_not_hollow(executor: Executor, program: str, text: str) -> None:
    [validated] = executor.validate([ValidationRequest(program, (text,))])
    [found] = probe([(program, validated.pairs[0])], executor)
    assert why_vacuous(Task("deduction", program, validated.pairs), found) == ""


def test_what_an_input_never_reached_is_pruned_within_a_try_too(executor: Executor) -> None:
    program = (
        "def f(s):\n    try:\n        n = len(s)\n        for c in s:\n            n += ord(c) * 3 + 17\n"
        "        return s[::-1]\n    except MemoryError:\n        return None\n    finally:\n        pass"
    )
    [validated] = executor.validate([ValidationRequest(program, ("'hello'",))])
    [found] = probe([(program, validated.pairs[0])], executor)
    core = found.core() if found else None
    assert core is not None and ast.unparse(core) == "def f(s):\n    return s[::-1]"


@pytest.mark.parametrize(
    "source",
    [
        "x = y" + ".a" * 2500,
        "def f(x):\n    if x == 0:\n        return 0\n"
        + "".join(f"    elif x == {i}:\n        return {i}\n" for i in range(2000)),
        "def f(x):\n    try:\n        return x\n    finally:\n        pass",
        "".join(f"def g{i}(x):\n    return g{i + 1}(x)\n" for i in range(500))
        + "def g500(x):\n    x.append(1)\ndef f(x):\n    g0(x)\n    return x",
    ],
    ids=["attributes", "elifs", "finally", "chain"],
)  # fmt: skip
def test_any_program_is_minimised_soon_or_not_at_all(source: str) -> None:
    began = time.process_time()
    for seen in (None, 0):
        minimise(source, seen)
    assert time.process_time() - began < 20  # quadratic took minutes


# What pads a program that just turns its text around; none of it is ever read.
PADDING = [
    "n = len(s)\nm = -1\nfor c in s:\n    n += 1\n    m += n * 2 + 3",
    "a = b = 0\nfor c in s:\n    a += ord(c) * 3 + 1\n    b += a * 2 - ord(c)",
    "n: int = 0\nfor c in s:\n    n += ord(c) * 5 + 17\n    n -= len(s) * 3",
    "t = s.upper()\nfor c in s:\n    t += c.lower() + 'x'\n    t += c * 3 + 'yz'",
    "a = g(s, s)\nb = g(a, s)\nc = g(b, g(a, b))\nd = g(c, g(b, a))",
    "a = Counter(s + 'abc' * 3)\nb = deque(s + 'xyz' * 2)\na.update(b)\nb.extend(s * 2)",
    "c = sqrt(len(s) * 3 + 1)\nd = defaultdict(list)\nd.update({c: [c * 2, len(s) + 7]})",
    "x, y = 0, 1\nfor c in s:\n    x += ord(c) + 3\n    y += x * 2 + ord(c)",
    "out = []\nfor c in s:\n    out.append(c.upper() + 'z' * 3)\n    out.append(len(c) * 2 + 1)",
    "n = 0\nout = []\nfor c in s:\n    n = n * 31 + ord(c) * 3\n    out = out + [c, c.upper()]",
]


@pytest.mark.parametrize("padding", PADDING)
def test_padding_of_every_kind_is_idle(executor: Executor, padding: str) -> None:
    """Else a proposer is paid for difficulty that nobody has to understand."""
    head = "from collections import Counter, deque, defaultdict\nfrom math import sqrt\n"
    own = "def g(x, y):\n    z = x * 2\n    return z + y\n" if "g(" in padding else ""
    body = "\n".join(f"    {line}" for line in padding.split("\n"))
    program = f"{head}{own}def f(s):\n{body}\n    return s[::-1]"
    [validated] = executor.validate([ValidationRequest(program, ("'hello'",))])
    [found] = probe([(program, validated.pairs[0])], executor)
    assert found is not None and found.folded
    core = minimise(program)
    assert core is not None and ast.unparse(core).endswith("def f(s):\n    return s[::-1]")
    assert why_vacuous(Task("deduction", program, validated.pairs), found) != ""


@pytest.mark.parametrize("change", ["n += int(s)", "n = n + int(s)"])
def test_what_a_guarded_statement_needs_is_not_idle(change: str) -> None:
    """Whether it raises decides; without the first line it always would."""
    program = (
        f"def f(s):\n    n = 0\n    try:\n        {change}\n    except ValueError:\n        return 'no'\n    return s"
    )
    core = minimise(program)
    assert core is not None and ast.unparse(core) == program


@pytest.mark.parametrize(("one", "other"), COPIES)
def test_near_copies_are_found(one: str, other: str) -> None:
    assert similarity(grams(one), grams(other)) >= COPY


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_programs_are_no_copies(one: str, other: str) -> None:
    assert similarity(grams(one), grams(other)) < COPY


def test_recent_forgets_the_oldest() -> None:
    recent = Recent(BASES[:1])
    assert recent.is_copy(BASES[0]) and not recent.is_copy(BASES[1])
    for i in range(recent.grams.maxlen or 0):
        recent.add(f"def f(x): return x.method{i}()")
    assert not recent.is_copy(BASES[0])

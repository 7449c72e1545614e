import random

from hypothesis import given
from hypothesis import strategies as st

from azr.buffer import Buffer
from azr.records import Pair, Task, TaskType


def task(program: str, kind: TaskType = "deduction", inputs: tuple[str, ...] = ("1",)) -> Task:
    return Task(kind, program, tuple(Pair(text, text, b"x") for text in inputs))


def numbered(i: int) -> Task:
    return task(f"def f(x):\n    return x + {i}")


def test_a_renamed_program_is_a_repeat_and_another_type_is_not() -> None:
    buffer = Buffer(10)
    assert buffer.add(numbered(1), 0)
    assert not buffer.add(task("def f(y):\n  return y + 1", inputs=("99",)), 1)
    assert task("def f(y): return y + 1") in buffer
    assert buffer.add(task("def f(x):\n    return x + 1", "abduction"), 1)


def test_induction_is_new_by_its_inputs() -> None:
    buffer = Buffer(10)
    assert buffer.add(task("def f(x): return x", "induction", ("1", "2")), 0)
    assert not buffer.add(task("def f(x): return x", "induction", ("2", "1")), 0)
    assert buffer.add(task("def f(x): return x", "induction", ("1", "3")), 0)


def test_a_full_buffer_takes_new_tasks_and_drops_the_oldest() -> None:
    buffer = Buffer(16)
    for i in range(40):
        assert buffer.add(numbered(i), i)
    assert [e.step for e in buffer.entries("deduction")] == list(range(24, 40))
    assert numbered(3) not in buffer


@given(st.integers(0, 30), st.integers(0, 10), st.integers(0, 99))
def test_samples_are_distinct_and_as_many_as_there_are(size: int, count: int, seed: int) -> None:
    buffer = Buffer(64)
    for i in range(size):
        buffer.add(numbered(i), i)
    found = buffer.sample("deduction", count, random.Random(seed))
    assert len(found) == min(size, count) == len({t.id for t in found})


def test_recent_tasks_are_shown_more() -> None:
    buffer, rng = Buffer(2048), random.Random(0)
    for i in range(1024):
        buffer.add(numbered(i), i)
    steps = [int(buffer.sample("deduction", 1, rng)[0].program.split()[-1]) for _ in range(300)]
    assert sum(s >= 768 for s in steps) > 2 * sum(s < 512 for s in steps) > 0


def test_state_round_trip_keeps_order_and_text() -> None:
    buffer = Buffer(16)
    for i in (3, 1, 2):
        buffer.add(numbered(i), i, 0.5)
    buffer.add(Task("induction", "def f(x): return '\ud800'", (Pair("1", "'\0'", b"\xff"),), "m"), 7)
    copy = Buffer(16)
    copy.restore(buffer.state())
    assert copy.state() == buffer.state()
    assert copy.entries("induction")[0].task == buffer.entries("induction")[0].task
    assert copy.sample("deduction", 2, random.Random(5)) == buffer.sample("deduction", 2, random.Random(5))

"""Answers that fit without a look at the task."""

from __future__ import annotations

from azr.config import Config
from azr.executor import Executor, encode
from azr.guessing import UNKNOWN, guess_rates, input_share
from azr.records import Attempt, Completion, Pair, Proposal, Task, TaskType, Verdict
from azr.rewards import Shaping
from azr.scoring import score


def task(kind: TaskType, program: str, given: str, value: object) -> Task:
    return Task(kind, program, (Pair(given, repr(value), encode(value)),))


def attempt(of: Task, answer: str | None) -> Attempt:
    return Attempt(of, (1,), Completion((2,), "", (-1.0,), "stop"), answer)


def test_a_deduction_is_guessed_as_often_as_the_others_answers_fit(executor: Executor) -> None:
    one, two, lonely = (task("deduction", f"def f(x):\n    return x + {n}", "1", n + 1) for n in (1, 2, 3))
    attempts = [attempt(one, "2"), attempt(one, "3"), attempt(two, "3"), attempt(two, None), attempt(two, "2 ")]
    assert guess_rates(attempts, executor) == {one.id: 1 / 3, two.id: 1 / 2}
    assert guess_rates([attempt(lonely, "4")], executor) == {}


def test_an_abduction_is_guessed_by_running_the_others_answers(executor: Executor) -> None:
    free = task("abduction", "def f(x):\n    return 7", "1", 7)
    tight = task("abduction", "def f(x):\n    return x * x", "3", 9)
    attempts = [attempt(tight, answer) for answer in ("3", "4", "'a'", None)]
    attempts += [attempt(free, answer) for answer in ("-3", "0")]
    assert guess_rates(attempts, executor) == {free.id: 3 / 4, tight.id: 1 / 2}


def test_an_abduction_is_guessed_by_the_input_that_its_kind_of_data_has_most(executor: Executor) -> None:
    def about(given: str, number: int) -> Task:
        return task("abduction", f"def f(x):\n    return x, {number}", given, 0)

    newest = [about("[1, 2, 3]", n) for n in range(12)] + [about("[4], 5", 20), about("'a'", 21), about("7", 22)]
    assert input_share(about("[1,2,3], 9", 30), newest) == 12 / (13 + UNKNOWN)
    assert input_share(about("[4]", 30), newest) == 1 / (13 + UNKNOWN)
    assert input_share(about("'a'", 30), newest) == 1 / (1 + UNKNOWN)
    assert input_share(about("{1: 2}", 30), newest) == 0.0
    assert input_share(newest[0], newest) == 11 / (12 + UNKNOWN)  # it does not wear itself out
    assert input_share(task("deduction", "def f(x):\n    return x", "[1, 2, 3]", 0), newest) == 0.0
    one, two = (
        task("abduction", "def f(x):\n    return x[0]", "[1, 2, 3]", 1),
        task("abduction", "def f(x): return 0", "'a'", 0),
    )
    found = guess_rates([attempt(one, "[5]"), attempt(two, "'b'")], executor, newest)
    assert found == {one.id: 12 / (13 + UNKNOWN), two.id: 1.0}


def test_types_are_apart_and_induction_is_left_out(executor: Executor) -> None:
    deduce, abduce = (
        task("deduction", "def f(x):\n    return x", "1", 1),
        task("abduction", "def f(x):\n    return x", "1", 1),
    )
    induce = [task("induction", f"def f(x):\n    return x + {n}", "1", n + 1) for n in range(2)]
    attempts = [attempt(t, "1") for t in (deduce, abduce)] + [attempt(t, "def f(x):\n    return x") for t in induce]
    assert guess_rates(attempts, executor) == {}


def test_what_can_be_guessed_teaches_less() -> None:
    t = task("deduction", "def f(x):\n    return x", "1", 1)
    proposal = Proposal("deduction", (1,), Completion((2,), "", (-1.0,), "stop"), (), task=t)
    attempts = [attempt(t, "1"), attempt(t, "2")]
    verdicts = [Verdict(True, "ok"), Verdict(False, "ok")]

    def scored(guessed: dict[str, float]):  # type: ignore[no-untyped-def]
        shaping = Shaping(band=(0.4, 0.7))
        return score([proposal], [t], attempts, verdicts, Config(), [shaping], guessed)

    full, half = scored({}), scored({t.id: 0.5})
    assert (full.proposal_rewards, half.proposal_rewards) == ((1.0,), (0.5,))
    assert half.attempt_rewards == full.attempt_rewards
    assert half.attempt_advantages == tuple(a / 2 for a in full.attempt_advantages)

from dataclasses import replace

import pytest

from azr.advantages import whiten
from azr.config import Config, TasksConfig, TrainConfig
from azr.records import Attempt, Completion, Pair, Proposal, Task, TaskType, Verdict
from azr.rewards import Shaping
from azr.scoring import Scored, score

DONE = Completion((1, 2), "text", (-0.1, -0.2), "stop")


def task(i: int, kind: TaskType = "deduction") -> Task:
    return Task(kind, f"def f(x): return x + {i}", (Pair("1", str(1 + i), b""),))


def proposal(t: Task | None, repeated: bool = False) -> Proposal:
    return Proposal(t.type if t else "deduction", (9,), DONE, (), task=t, repeated=repeated)


def attempts(t: Task, outcomes: list[bool | None]) -> list[tuple[Attempt, Verdict]]:
    return [(Attempt(t, (8,), DONE, None if o is None else "1"), Verdict(bool(o), "ok")) for o in outcomes]


def run(config: TrainConfig | None = None) -> Scored:
    a, b = task(1), task(2)
    proposals = [proposal(a), proposal(None), proposal(a, repeated=True), proposal(task(3))]
    pairs = attempts(a, [True, False, False, None]) + attempts(b, [True, True, True, True])
    return score(proposals, [a, b], [p[0] for p in pairs], [p[1] for p in pairs], Config(train=config or TrainConfig()))


def test_rewards_by_hand() -> None:
    scored = run()
    assert scored.proposal_rewards == (0.75, -1.0, -0.5, None)  # the last was never attempted: no sample
    assert scored.attempt_rewards == (1.0, -0.5, -0.5, -1.0, 1.0, 1.0, 1.0, 1.0)
    assert sorted(scored.rates.values()) == [0.25, 1.0]
    assert len(scored.samples) == 3 + 8
    assert [s.temperature for s in scored.samples] == [TasksConfig().proposal_temperature] * 3 + [
        TasksConfig().answer_temperature
    ] * 8


def test_each_group_of_type_and_role_has_its_own_baseline() -> None:
    """By default it only divides by the group's spread; `type_role` takes the group's mean away too."""
    found = [
        proposal(task(1, kind), repeated=repeated) for kind in ("deduction", "abduction") for repeated in (False, True)
    ]
    found += [Proposal("abduction", (9,), DONE, ()), Proposal("deduction", (9,), DONE, (), task=task(2), repeated=True)]
    easy, hard = attempts(task(1), [True, True, True, False]), attempts(task(1, "abduction"), [None, False, True, None])
    tasks = [pair[0][0].task for pair in (easy, hard)]
    config = Config(train=TrainConfig(baseline="type_role"))
    scored = score(found, tasks, [p[0] for p in easy + hard], [p[1] for p in easy + hard], config)
    rewards, advantages = list(scored.attempt_rewards), list(scored.attempt_advantages)
    assert advantages[:4] == whiten(rewards[:4], config.train.std_floor)
    assert advantages[4:] == whiten(rewards[4:], config.train.std_floor)
    assert sum(rewards[:4]) > 0 > sum(rewards[4:])  # one mean for both would favour the easy type
    of_type = {"deduction": (0, 1, 5), "abduction": (2, 3, 4)}
    for places in of_type.values():
        own = whiten([scored.proposal_rewards[i] or 0.0 for i in places], config.train.std_floor)
        assert [scored.proposal_advantages[i] for i in places] == own
    assert scored.silent_groups == 0


def test_leave_one_out_compares_within_a_task() -> None:
    scored = run(TrainConfig(baseline="leave_one_out"))
    assert scored.attempt_advantages[4:] == (0.0, 0.0, 0.0, 0.0)  # all four right: nothing to learn from each other
    assert scored.attempt_advantages[0] > 0 > scored.attempt_advantages[3]


def test_leave_one_out_compares_proposals_within_a_prompt() -> None:
    found = [proposal(task(1), repeated=True), proposal(None), proposal(None), proposal(None), proposal(task(2))]
    found = [replace(p, prompt_ids=(i // 2,)) for i, p in enumerate(found)]
    scored = score(found, [], [], [], Config(train=TrainConfig(baseline="leave_one_out")))
    assert scored.proposal_rewards == (-0.5, -1.0, -1.0, -1.0, None)  # the last was not attempted
    first, second, *others = scored.proposal_advantages
    assert first and second and first == -second > 0
    assert others == [0.0, 0.0, None]  # nobody did what the second prompt asked for: that says nothing of its proposals


def test_the_format_control_is_blind_to_correctness() -> None:
    scored = run(TrainConfig(reward="format"))
    assert scored.attempt_rewards == (1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0)
    assert scored.proposal_rewards == (1.0, -1.0, -0.5, None)


def test_a_silent_group_is_counted() -> None:
    a = task(1)
    pairs = attempts(a, [True, True])
    scored = score([proposal(None)], [a], [p[0] for p in pairs], [p[1] for p in pairs], Config())
    assert scored.silent_groups == 2
    assert all(s.advantage == 0 for s in scored.samples)


def test_shapings_belong_to_their_proposals_and_leave_invalid_ones_alone() -> None:
    a, b, c = task(1), task(2), task(3)
    proposals = [proposal(a), proposal(None), proposal(b), proposal(c), proposal(a, repeated=True)]
    hollow = Shaping(hollow=True)
    shapings = [Shaping(band=(0.5, 0.6)), Shaping(), hollow, Shaping(), hollow]
    pairs = attempts(a, [True, False])
    scored = score(proposals, [a], [p[0] for p in pairs], [p[1] for p in pairs], Config(), shapings)
    assert scored.proposal_rewards == (1.0, -1.0, -1.0, None, -1.0)
    assert len(scored.samples) == 4 + 2  # a hollow task is learnt from although nobody attempted it


@pytest.mark.parametrize(
    ("kind", "answer", "status", "reward"),
    [
        ("deduction", "'7'", "ok", -0.75),
        ("deduction", "8", "ok", -0.5),
        ("deduction", None, "malformed", -1.0),
        ("abduction", "'a'", "exception", -0.75),
        ("abduction", "8", "ok", -0.5),
        ("abduction", "8", "timeout", -0.5),
        ("induction", "def f(x): ...", "exception", -0.5),
    ],
)
def test_a_wrong_answer_of_the_wrong_kind_costs_more(
    kind: TaskType, answer: str | None, status: str, reward: float
) -> None:
    t = Task(kind, "def f(x):\n    return x", (Pair("7", "7", b"7"),))
    pair = Attempt(t, (8,), DONE, answer), Verdict(False, status)
    for setting, expected in (("graded", reward), ("full", max(reward, -0.5) if answer else -1.0)):
        config = Config.model_validate({"train": {"reward": setting}})
        assert score([], [t], [pair[0]], [pair[1]], config).attempt_rewards == (expected,)

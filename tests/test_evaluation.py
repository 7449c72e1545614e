"""A whole evaluation with a scripted policy: prompts, store, resume, results, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_benchmarks import CRUX, HUMANEVAL, MBPP, write

from azr import train
from azr.config import Config, ExecutorConfig
from azr.errors import UserError
from azr.evaluation import benchmarks, contamination, protocols, results
from azr.evaluation.evaluate import Subject, evaluate, fingerprint_of, select, untrained
from azr.evaluation.problems import Benchmark
from azr.evaluation.results import Result
from azr.evaluation.scoring import Scorer, evaluation_executor
from azr.evaluation.training import due, evaluate_during_training, wanted
from azr.executor.programs import ProgramSandbox
from azr.policy.base import Progress
from azr.policy.scripted import ScriptedPolicy
from azr.records import Group, Sampling
from azr.store import Store
from azr.targets import REFERENCES

COUNT = 40


class Killed(Exception):
    """Stands for `kill -9`."""


class CountingPolicy(ScriptedPolicy):
    """Solves the tasks whose number is in `solved`; remembers its prompts; dies when told to."""

    def __init__(self, solved: set[int], dies_after: int = 10**9) -> None:
        super().__init__(self.answer)
        self.solved, self.dies_after = solved, dies_after
        self.prompts: list[str] = []
        self.more: dict[str, str | int | float] = {}  # what `describe` says besides

    def describe(self) -> dict[str, str | int | float]:
        return super().describe() | self.more

    def answer(self, prompt: str, number: int) -> str:
        task = int(prompt.split("def one")[1].split("(")[0])
        return f"\n    return {task}\n" if task in self.solved else "\n    return None\n"

    def generate(
        self, prompts: Sequence[str], samples_per_prompt: int, sampling: Sampling, progress: Progress | None = None
    ) -> list[Group]:
        if len(self.prompts) + len(prompts) > self.dies_after:
            raise Killed
        self.prompts += prompts
        return super().generate(prompts, samples_per_prompt, sampling, progress)


def row(number: int) -> dict[str, Any]:
    return {
        **HUMANEVAL,
        "task_id": f"HumanEval/{number}",
        "prompt": f'def one{number}():\n    """{number}."""\n',
        "entry_point": f"one{number}",
        "canonical_solution": f"    return {number}\n",
        "test": f"def check(candidate):\n    assert candidate() == {number}\n",
    }


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with evaluation_executor(ExecutorConfig()) as executor:
        yield Scorer(ProgramSandbox(executor))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "data" / "azr.sqlite") as store:
        yield store


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    path = tmp_path_factory.mktemp("data") / "HumanEval.jsonl"
    return benchmarks.load("humaneval", write(path, [row(number) for number in range(COUNT)]))


def run(
    policy: CountingPolicy, scorer: Scorer, store: Store, benchmark: Benchmark, max_tasks: int = 0, **options: Any
) -> Result:
    subject = options.pop("subject", untrained("scripted"))
    protocol, prompts = protocols.choose(benchmark, policy, temperature=options.pop("temperature", 0.0))
    return evaluate(policy, scorer, store, subject, protocol, prompts, select(benchmark, max_tasks), **options)


def test_the_score_is_what_the_samples_say(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    result = run(CountingPolicy(set(range(10))), scorer, store, benchmark)
    assert (result.tasks, result.pass_at(1)) == (COUNT, 0.25)
    assert result.statuses == {"ok": 10, "wrong": 30}
    summary = result.summary()
    assert summary["pass@1"] == 0.25 and summary["interval"][0] < 0.25 < summary["interval"][1]
    assert json.loads(json.dumps(summary))["failures"] == {"wrong": 30}
    rows = store.query("SELECT COUNT(*) AS samples, SUM(correct) AS correct FROM evaluation_samples")
    assert rows == [{"samples": COUNT, "correct": 10}]


def test_interrupted_it_generates_nothing_twice(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    first = CountingPolicy({1, 2, 3}, dies_after=35)
    with pytest.raises(Killed):
        run(first, scorer, store, benchmark)
    assert len(first.prompts) == 32
    second = CountingPolicy({1, 2, 3})
    result = run(second, scorer, store, benchmark)
    assert len(second.prompts) == COUNT - 32
    assert not set(first.prompts) & set(second.prompts)
    assert result.pass_at(1) == 3 / COUNT
    third = CountingPolicy(set())
    assert run(third, scorer, store, benchmark) == result
    assert third.prompts == []


def test_killed_before_scoring_it_scores_what_it_generated(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    class Dies(Scorer):
        def score(self, items: Any, progress: Any = None) -> Any:
            if any(solution != problem.reference for problem, solution in items):
                raise Killed
            return scorer.score(items, progress)

    with pytest.raises(Killed):
        run(CountingPolicy({5}), Dies(scorer.sandbox), store, benchmark)
    with pytest.raises(UserError, match="lack samples"):  # nothing unscored is ever shown as a score
        results.result_of(store, 1, [p.id for p in benchmark.problems], 1, (1,), {}, "")
    policy = CountingPolicy(set())
    assert run(policy, scorer, store, benchmark).pass_at(1) == 1 / COUNT
    assert policy.prompts == []


def test_a_subset_is_seeded_and_a_larger_evaluation_goes_on_from_it(
    scorer: Scorer, store: Store, benchmark: Benchmark
) -> None:
    assert [p.id for p in select(benchmark, 5)] == [p.id for p in select(benchmark, 12)][:5]
    assert [p.id for p in select(benchmark)] != [p.id for p in benchmark.problems]
    assert run(CountingPolicy(set()), scorer, store, benchmark, 5).tasks == 5
    policy = CountingPolicy(set())
    assert run(policy, scorer, store, benchmark, 12).tasks == 12
    assert len(policy.prompts) == 7


def test_pass_at_k(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    policy = CountingPolicy(set())
    policy.script = lambda prompt, number: (
        f"\n    return {prompt.split('def one')[1].split('(')[0]}\n" if number % 4 == 0 else "\n    return None\n"
    )
    result = run(policy, scorer, store, benchmark, 3, samples=4, ks=(1, 2, 4), temperature=0.8)
    assert [result.pass_at(k) for k in (1, 2, 4)] == [0.25, 0.5, 1.0]
    assert len(policy.prompts) == 3  # a prompt and its group are one request, so that the engine computes it once
    assert result.protocol["comparable"] == []


def test_no_score_is_shown_without_its_executed_samples(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    other = Subject("run-1/step-0010", None, 10)
    run(CountingPolicy({1}), scorer, store, benchmark, 5)
    run(CountingPolicy({1}), scorer, store, benchmark, 5, subject=other)
    shown = [
        lambda: results.result_of(store, 1, [p.id for p in select(benchmark, 5)], 1, (1,), {}, ""),
        lambda: results.compare(store, "humaneval", "untrained scripted", other.name),
        lambda: results.compare(store, "humaneval", other.name, "untrained scripted"),
        lambda: results.scores_without(store, "humaneval", set()),
    ]
    for show in shown:
        assert show()
    task = select(benchmark, 1)[0].id
    for change in ("UPDATE evaluation_samples SET status = 'unscored'", "DELETE FROM evaluation_samples"):
        with store.transaction() as connection:
            connection.execute(f"{change} WHERE evaluation = 1 AND task_id = ?", (task,))
        for show in shown:
            with pytest.raises(UserError, match=r"1 tasks lack samples|1 of 5 samples behind its score are missing"):
                show()


def test_a_task_whose_reference_fails_is_excluded_and_named(scorer: Scorer, store: Store, tmp_path: Path) -> None:
    bad = {**row(1), "canonical_solution": "    return 2\n"}
    path = write(tmp_path / "HumanEval.jsonl", [row(0), bad])
    result = run(CountingPolicy({0, 1}), scorer, store, benchmarks.load("humaneval", path))
    assert (result.tasks, list(result.excluded)) == (1, ["HumanEval/1"])
    assert "excluded: HumanEval/1" in results.table([result])


def test_the_protocol_names_everything_that_makes_a_score(benchmark: Benchmark, tmp_path: Path) -> None:
    policy = CountingPolicy(set())
    base, _ = protocols.choose(benchmark, policy)
    assert base.hash == protocols.choose(benchmark, policy)[0].hash
    other = benchmarks.load("humaneval", write(tmp_path / "HumanEval.jsonl", [row(7)]))
    changed = [
        protocols.choose(benchmark, policy, temperature=0.5)[0],
        protocols.choose(benchmark, policy, max_new_tokens=9)[0],
        protocols.choose(benchmark, policy, seed=1)[0],
        protocols.choose(benchmark, policy, "chat")[0],
        protocols.choose(benchmark, policy, "azr-think")[0],
        protocols.choose(other, policy)[0],
    ]
    assert len({base.hash, *(protocol.hash for protocol in changed)}) == 7
    with pytest.raises(UserError, match="choose among auto"):
        protocols.choose(benchmark, policy, "guess")
    assert base.limits["cpu_seconds"] and base.limits["call_seconds"] and base.limits["memory_mb"]
    for how in ({"quantization": "NF4"}, {"backend": "mlx"}, {"generation_precision": "bfloat16"}):
        policy.more = dict(how)
        assert protocols.choose(benchmark, policy)[0].hash != base.hash


def test_other_weights_of_the_same_name_are_another_subject(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    for fingerprint, solved in (("aa", {1, 2, 3}), ("bb", set())):
        policy = CountingPolicy(solved)
        policy.more = {"fingerprint": fingerprint}
        subject = untrained("folder", fingerprint_of(policy))
        tasks = {int(p.id.partition("/")[2]) for p in select(benchmark, 12)}
        assert run(policy, scorer, store, benchmark, 12, subject=subject).pass_at(1) == len(tasks & solved) / 12


def test_a_chat_prompt_is_sampled_as_one(benchmark: Benchmark) -> None:
    policy = CountingPolicy(set())
    asked = {style: protocols.choose(benchmark, policy, style)[0].sampling(0).chat for style in protocols.STYLES}
    assert asked == {"completion": False, "chat": True, "azr-think": True}


def test_references_stand_beside_the_same_protocol_on_the_whole_set_only(
    scorer: Scorer, store: Store, tmp_path: Path
) -> None:
    whole = benchmarks.load("humaneval", write(tmp_path / "HumanEval.jsonl", [row(number) for number in range(164)]))
    protocol, _ = protocols.choose(whole, CountingPolicy(set()))
    assert protocol.describe(select(whole))["comparable"] == ["0-shot"]
    assert protocol.describe(select(whole, 163))["comparable"] == []
    for changed in ({"temperature": 0.8}, {"max_new_tokens": 9}, {"style": "chat"}):
        other, _ = protocols.choose(whole, CountingPolicy(set()), **changed)
        assert other.describe(select(whole))["comparable"] == []
    shots = [{**MBPP, "task_id": number} for number in (2, 3, 4, 11, 12)]
    some = benchmarks.load("mbpp", write(tmp_path / "mbpp.jsonl", shots))
    assert protocols.choose(some, CountingPolicy(set()))[0].describe(select(some))["comparable"] == []
    subset = run(CountingPolicy({1}), scorer, store, whole, 2)
    assert results.comparable(subset, REFERENCES) == []
    assert {r.protocol for r in results.comparable(run(CountingPolicy({1}), scorer, store, whole), REFERENCES)} == {
        "0-shot"
    }
    assert results.comparable(run(CountingPolicy({1}), scorer, store, whole, 2), REFERENCES) == []


def test_prompts_of_every_benchmark_and_style(tmp_path: Path) -> None:
    policy = ScriptedPolicy([""])
    shots = [{**MBPP, "task_id": number} for number in (2, 3, 4)]
    sets: dict[str, list[dict[str, Any]]] = {
        "mbpp": [*shots, MBPP],
        "humaneval": [HUMANEVAL],
        "cruxeval-i": [CRUX],
        "cruxeval-o": [CRUX],
    }
    for name, rows in sets.items():
        data = benchmarks.load(name, write(tmp_path / f"{name}.jsonl", rows))
        for style in protocols.STYLES:
            protocol, prompts = protocols.choose(data, policy, style)
            assert set(prompts) == {problem.id for problem in data.problems}
            assert protocol.name == ("mbpp-3shot" if (name, style) == ("mbpp", "completion") else style)
    mbpp = benchmarks.load("mbpp", tmp_path / "mbpp.jsonl")
    text = protocols.choose(mbpp, policy)[1]["11"]
    assert text.count("[DONE]") == 3 and text.endswith("[BEGIN]\n")
    assert [problem.id for problem in select(mbpp)] == ["11"]
    with pytest.raises(UserError, match="lacks tasks 2, 3 and 4"):
        protocols.choose(benchmarks.load("mbpp", write(tmp_path / "x.jsonl", [MBPP])), policy)


def test_comparison(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    run(CountingPolicy(set(range(10))), scorer, store, benchmark)
    better = Subject("run-1/step-0010", None, 10)
    run(CountingPolicy(set(range(2, 12))), scorer, store, benchmark, subject=better)
    found = results.compare(store, "humaneval", "untrained scripted", better.name)
    assert (len(found.gained), len(found.lost), found.p_value) == (2, 2, 1.0)
    best = Subject("run-1/step-0020", None, 20)
    run(CountingPolicy(set(range(18))), scorer, store, benchmark, subject=best)
    found = results.compare(store, "humaneval", "untrained scripted", best.name)
    assert (len(found.gained), len(found.lost)) == (8, 0)
    assert found.summary()["significant"] and found.p_value == 2 / 2**8
    two = results.compare(store, "humaneval", better.name, "untrained scripted")
    assert "not significant" in two.text()
    with pytest.raises(UserError, match="no finished evaluation"):
        results.compare(store, "humaneval", "untrained scripted", "nobody")


def test_comparison_across_protocols_has_to_be_forced(scorer: Scorer, store: Store, benchmark: Benchmark) -> None:
    other = Subject("run-1/step-0010", None, 10)
    run(CountingPolicy({1}), scorer, store, benchmark, 4)
    run(CountingPolicy({1}), scorer, store, benchmark, 4, subject=other, temperature=0.7)
    with pytest.raises(UserError, match="different protocols"):
        results.compare(store, "humaneval", "untrained scripted", other.name)
    run(CountingPolicy({1}), scorer, store, benchmark, 4, subject=other, temperature=0.7, samples=3)
    forced = results.compare(store, "humaneval", "untrained scripted", other.name, force=True)
    assert (forced.tasks, forced.samples) == (4, 4)  # only what both have: one sample a task
    assert "PROTOCOLS DIFFER" in forced.text()


def test_due_steps() -> None:
    config = Config.model_validate({"train": {"steps": 25}, "evaluation": {"every": 10}})
    assert [step for step in range(26) if due(config, step)] == [0, 10, 20, 25]
    assert not any(due(Config(), step) for step in range(201))


def test_contamination_finds_copies_and_not_strangers() -> None:
    source = (
        "def total(values):\n    result = 0\n    for value in values:\n        if value % 2:\n"
        "            result += value\n    return result"
    )
    renamed = source.replace("values", "xs").replace("value", "x").replace("result", "acc").replace("total", "f")
    problem = benchmarks.mbpp.parse({**MBPP, "code": source, "test_list": ["assert total([1]) == 1"]})
    assert {hit.kind for hit in contamination.overlaps([problem], [source])} == {"n-gram", "tree"}
    assert [hit.kind for hit in contamination.overlaps([problem], [renamed])] == ["tree"]
    assert contamination.overlaps([problem], ["def f(a):\n    return a", "not python ("]) == []


# --- while training ---------------------------------------------------------------------------------------------------


def test_evaluation_during_training(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "HumanEval.jsonl", [row(number) for number in range(COUNT)])
    values = {
        "model": {"name": "smollm2-135m"},
        "evaluation": {"every": 10, "benchmarks": ["humaneval", "mbpp"], "data_dir": str(tmp_path), "max_tasks": 8},
    }
    config = Config.model_validate(values)
    run = store.start_run(config, {}, {})
    [before] = evaluate_during_training(config, CountingPolicy(set()), run, 0)
    [after] = evaluate_during_training(config, CountingPolicy(set(range(COUNT))), run, 10)
    assert (before.subject, before.pass_at(1), before.tasks) == ("untrained smollm2-135m", 0.0, 8)
    assert (after.subject, after.pass_at(1)) == (f"{run.name}/step-0010", 1.0)
    again = CountingPolicy(set())
    assert evaluate_during_training(config, again, run, 10) == [after]  # resumed: nothing is done twice
    assert again.prompts == []
    found = results.compare(store, "humaneval", before.subject, after.subject)
    assert (len(found.gained), len(found.lost)) == (8, 0)
    typo = Config.model_validate({"evaluation": {"every": 10, "benchmarks": ["humaneval", "mpbb"]}})
    with pytest.raises(UserError, match="unknown benchmark 'mpbb'"):
        train.main(typo, resume=None, workspace=tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert wanted(Config.model_validate({"evaluation": {"every": 10, "benchmarks": ["all"]}})) == benchmarks.NAMES
    # MBPP's data is not in the folder: noted, and the training goes on.
    assert store.query("SELECT step FROM events WHERE kind = 'evaluation' ORDER BY step") == [{"step": 0}, {"step": 10}]

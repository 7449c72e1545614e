from __future__ import annotations

from pathlib import Path

import pytest

from azr.config import Config, changed_keys, key_names, load_config
from azr.config_text import BEGIN, DOCS_FILE, END, YAML_FILE, to_markdown, to_yaml, with_table
from azr.errors import UserError
from azr.targets import REFERENCES


def refused(text: str, tmp_path: Path, *overrides: str) -> str:
    """The one line that refuses this file, without the file's path."""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_the_shipped_file_holds_the_defaults_and_every_key() -> None:
    assert load_config(YAML_FILE) == Config()
    assert YAML_FILE.read_text(encoding="utf-8") == to_yaml(Config()), "stale: run python -m azr.config_text"


def test_the_docs_explain_every_key() -> None:
    document = DOCS_FILE.read_text(encoding="utf-8")
    table = document.split(BEGIN)[1].split(END)[0]
    assert table.strip() == to_markdown().strip(), "stale: run python -m azr.config_text"
    assert with_table(document) == document


def test_every_key_is_explained_in_one_line() -> None:
    lines = to_yaml(Config()).splitlines()
    for name in key_names():
        key = name.partition(".")[2]
        above = [lines[number - 1] for number, line in enumerate(lines) if line.startswith(f"  {key}:")]
        assert above, name
        assert all(line.startswith("  # ") and len(line) > 10 for line in above), name


def test_text_and_values_make_a_round_trip(tmp_path: Path) -> None:
    config = load_config(None, ["train.learning_rate=1e-6", "model.name='./my model: v2'", "tasks.types=[induction]"])
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    assert config.train.learning_rate == 1e-6
    assert config.model.name == "./my model: v2"


def test_file_over_defaults_and_overrides_over_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("train:\n  steps: 7\n  learning_rate: 3e-4\ntasks:\n# a section left empty is no error\n")
    config = load_config(path, ["train.seed=5", "train.steps=9", "train.steps=11"])
    assert (config.train.steps, config.train.seed, config.train.learning_rate) == (11, 5, 3e-4)
    assert config.tasks == Config().tasks
    path.write_text("")
    assert load_config(path) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {stepz: 3}", "FILE: unknown key train.stepz; did you mean train.steps?"),
        ("trian: {steps: 3}", "FILE: unknown key trian; did you mean train?"),
        ("steps: 3", "FILE: unknown key steps; did you mean train.steps?"),
        ("train: {lora_rank: 8}", "FILE: unknown key train.lora_rank; did you mean model.lora_rank?"),
        ("train: {steps: '3'}", "FILE: train.steps: should be a valid integer, not '3'"),
        ("train: {steps: true}", "FILE: train.steps: should be a valid integer, not True"),
        ("train: {steps: 0}", "FILE: train.steps: should be greater than or equal to 1, not 0"),
        ("train: {learning_rate: .inf}", "FILE: train.learning_rate: should be a finite number, not inf"),
        ("model: {name: 3}", "FILE: model.name: should be a valid string, not 3"),
        ("model: {style: chatty}", "FILE: model.style: should be 'auto', 'completion' or 'chat', not 'chatty'"),
        ("train: 5", "FILE: train: should be a section with keys of its own"),
        ("- train", "FILE: expected sections such as `train:`, found list"),
        ("train: {steps: 3", "FILE, line 1: not valid YAML: expected ',' or '}', but got '<stream end>'"),
        ("train: {steps: 3}\ntrain: {seed: 1}", "FILE, line 2: not valid YAML: the key 'train' is given twice"),
    ],
)
def test_bad_files_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path) == message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "\0",
        "? [a]\n: 3",
        "? 2024-01-01\n: 3",
        "train: !!python/name:os.x ''",
        "model: {name: !!bool maybe}",
        "model: {name: !!timestamp foo}",
        "model: {name: !!int ''}",
    ],
)
def test_strange_yaml_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path).startswith("FILE")


def test_several_mistakes_are_named_together(tmp_path: Path) -> None:
    message = refused("train: {stepz: 3, seed: -1}", tmp_path)
    assert "train.seed" in message
    assert "train.stepz" in message


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration .*none\.yaml: No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"train: {} # \xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stps=1", "--set: unknown key train.stps; did you mean train.steps?"),
        ("trian.steps=1", "--set: unknown key trian.steps; did you mean train.steps?"),
        ("train.steps=abc", "--set: train.steps: should be a valid integer, not 'abc'"),
        ("train.steps", "--set train.steps: expected section.key=value, for example train.steps=100"),
        ("steps=1", "--set steps=1: expected section.key=value, for example train.steps=100"),
        ("model.name=null", "--set: model.name: should be a valid string, not None"),
        (
            "train.seed=9223372036854775808",
            "--set: train.seed: should be less than 9223372036854775808, not 9223372036854775808",
        ),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override: str, message: str, tmp_path: Path) -> None:
    assert refused("", tmp_path, override) == message


def test_changed_keys_name_what_a_resume_refuses() -> None:
    old = Config()
    new = load_config(
        None,
        [
            "train.steps=5",
            "train.save_every=3",
            "train.keep_checkpoints=1",
            "evaluation.every=4",
            "dashboard.port=1234",
            "tracking.backend=wandb",
            "targets.references=[]",
            "train.seed=1",
            "tasks.types=[deduction]",
        ],
    )
    assert changed_keys(old, old) == []
    assert changed_keys(old, new) == ["train.seed", "tasks.types"]
    assert {"train.steps", "dashboard.port", "targets.references"} <= set(changed_keys(old, new, may_change=()))


def test_targets_say_where_they_come_from() -> None:
    assert all(reference.protocol and reference.source for reference in REFERENCES)
    entries = [(reference.model, reference.benchmark, reference.protocol) for reference in REFERENCES]
    assert len(set(entries)) == len(entries)
    assert ("CodeLlama-7B", "humaneval", "evalplus") in entries


@pytest.mark.parametrize(
    ("key", "value"),
    [("tasks.types", "[deduction, abduction, deduction]"), ("curriculum.means", "[band, band]")],
)
def test_what_is_named_twice_is_refused(key: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{key}.*named twice: (deduction|band)"):
        load_config(None, [f"{key}={value}"])

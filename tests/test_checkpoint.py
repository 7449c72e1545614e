"""Checkpoints: exact round trips, every kind of damage named, older ones kept, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_samples import names, new_run, touch, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import WEIRD, config, step_rows

from azr import checkpoint as module
from azr.checkpoint import FORMAT, Checkpoints, check_same, load_checkpoint
from azr.errors import UserError
from azr.heldout import HeldOut
from azr.store import Run, Store
from azr.train import _check_resolved
from azr.workspace import Workspace

pytest_plugins = ["checkpoint_samples"]

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(ANY_TEXT, children, max_size=3),
    max_leaves=12,
)


def test_a_checkpoint_comes_back_as_it_was_saved(place: Workspace, run: Run) -> None:
    path = place.checkpoints.save(run, 20, write, {"text": WEIRD, "numbers": [0.1, 2**80, -0.0]})
    assert path == place.models / "checkpoint-0020"
    loaded = load_checkpoint(path)
    assert (loaded.step, loaded.run_id, loaded.run_name) == (20, run.id, run.name)
    assert loaded.config == run.config
    assert loaded.state == {"text": WEIRD, "numbers": [0.1, 2**80, -0.0]}
    assert loaded.format_version == FORMAT
    assert (loaded.path / "optimizer" / "state.safetensors").read_bytes() == b"moments" * 100
    assert names(place.models) == ["checkpoint-0020"]
    assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".safetensors", ".json"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(ANY_TEXT, JSON, max_size=3))
def test_any_state_survives(place: Workspace, run: Run, state: dict[str, Any]) -> None:
    assert load_checkpoint(place.checkpoints.save(run, 1, lambda folder: None, state)).state == state


@pytest.mark.parametrize(
    ("state", "error"),
    [({"a": [float("nan")]}, ValueError), ({"a": {1: 2}}, TypeError), ({"a": b"x"}, TypeError)],
)
def test_state_that_json_would_change_is_refused_before_writing(
    place: Workspace, run: Run, state: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"state\.a"):
        place.checkpoints.save(run, 1, write, state)
    assert not place.models.exists()


def test_no_pickle_is_written(place: Workspace, run: Run) -> None:
    with pytest.raises(ValueError, match=r"optimizer\.pt"):
        place.checkpoints.save(run, 1, lambda folder: touch(folder / "optimizer.pt"), {})
    assert names(place.models) == []


def test_the_newest_are_kept(place: Workspace) -> None:
    run = new_run(place, keep_checkpoints=2)
    for step in (1, 2, 3, 9_999, 10_000):
        place.checkpoints.save(run, step, write, {})
    assert names(place.models) == ["checkpoint-10000", "checkpoint-9999"]
    assert place.checkpoints.latest() == place.models / "checkpoint-10000"


def test_a_checkpoint_that_was_moved_away_and_linked_to_is_left_alone(place: Workspace, tmp_path: Path) -> None:
    run = new_run(place, keep_checkpoints=1)
    moved = place.checkpoints.save(run, 1, write, {}).rename(tmp_path / "elsewhere")
    (place.models / "checkpoint-0001").symlink_to(moved)
    place.checkpoints.save(run, 2, write, {})
    assert names(place.models) == ["checkpoint-0002"]
    (place.models / ".checkpoint-0001.trash").symlink_to(moved)  # by a version that could not delete it
    place.checkpoints.recover()
    assert names(place.models) == ["checkpoint-0002"] and (moved / "manifest.json").is_file()


def test_a_new_run_moves_older_runs_away_and_never_deletes_them(place: Workspace) -> None:
    first = new_run(place, keep_checkpoints=1)
    place.checkpoints.save(first, 10, write, {"run": 1})
    second = new_run(place, keep_checkpoints=1)
    assert names(place.models) == [first.name]
    for step in (10, 20):
        place.checkpoints.save(second, step, write, {"run": 2})
    assert names(place.models) == ["checkpoint-0020", first.name]
    assert load_checkpoint(place.models / first.name / "checkpoint-0010").state == {"run": 1}
    assert place.checkpoints.latest(first.name) is None


def test_an_archived_run_goes_on_from_its_folder(place: Workspace) -> None:
    first = new_run(place)
    place.checkpoints.save(first, 10, write, {"run": 1})
    second = new_run(place)
    place.checkpoints.save(second, 20, write, {"run": 2})
    loaded = load_checkpoint(place.models / first.name / "checkpoint-0010")
    place.checkpoints.claim(loaded.run_name, loaded.step)
    place.checkpoints.save(first, 20, write, {"run": 1})
    assert load_checkpoint(place.models / "checkpoint-0020").run_name == first.name
    assert load_checkpoint(place.models / second.name / "checkpoint-0020").run_name == second.name
    new_run(place)  # both 0010 and 0020 of the first run lie in its folder now
    assert names(place.models / first.name) == ["checkpoint-0010", "checkpoint-0020"]


def test_nothing_is_overwritten_in_an_archive(place: Workspace, run: Run) -> None:
    for number in (1, 2):
        place.checkpoints.save(run, 10, write, {"number": number})
        place.checkpoints.claim("another run")
    assert names(place.models / run.name) == ["checkpoint-0010", "checkpoint-0010-2"]
    assert load_checkpoint(place.models / run.name / "checkpoint-0010-2").state == {"number": 2}


def test_checkpoints_of_a_rolled_back_future_make_room(place: Workspace) -> None:
    run = new_run(place, keep_checkpoints=2)
    for step in (10, 20, 30):
        place.checkpoints.save(run, step, write, {"life": 1})
    loaded = load_checkpoint(place.models / "checkpoint-0020")
    place.checkpoints.claim(loaded.run_name, loaded.step)
    assert names(place.models) == ["checkpoint-0020", run.name]
    place.checkpoints.save(run, 21, write, {"life": 2})
    assert names(place.models) == ["checkpoint-0020", "checkpoint-0021", run.name]
    kept = place.models / run.name / "rolled-back" / "checkpoint-0030"
    assert load_checkpoint(kept).state == {"life": 1}


def test_saving_a_step_again_replaces_it(place: Workspace, run: Run) -> None:
    for number in (1, 2):
        path = place.checkpoints.save(run, 10, write, {"number": number})
    assert load_checkpoint(path).state == {"number": 2}
    assert names(place.models) == ["checkpoint-0010"]


@pytest.mark.parametrize("moment", ["write", "mkdir", "rename", "fsync"])
def test_a_full_disk_leaves_the_earlier_checkpoints(
    place: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    place.checkpoints.save(run, 10, write, {"a": 1})

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"disk is full.*resume from .*checkpoint-0010"):
        if moment != "write":
            patch.setattr(os, moment, full)
        place.checkpoints.save(run, 20, full if moment == "write" else write, {"a": 2})
    assert names(place.models) == ["checkpoint-0010"]
    assert load_checkpoint(place.models / "checkpoint-0010").state == {"a": 1}


def test_a_full_disk_reported_in_words_only(place: Workspace, run: Run) -> None:
    def native(folder: Path) -> None:
        raise RuntimeError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space" })')

    with pytest.raises(UserError, match="disk is full"):
        place.checkpoints.save(run, 20, native, {})


def test_a_folder_that_cannot_be_written_any_more_is_one_line(place: Workspace, run: Run) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(UserError, match=r"checkpoint-0001 was not written \(Permission denied\)"):
        place.checkpoints.save(run, 1, denied, {})
    assert names(place.models) == []


def test_any_other_failure_of_the_policy_is_not_hidden(place: Workspace, run: Run) -> None:
    def broken(folder: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.checkpoints.save(run, 20, broken, {})
    assert names(place.models) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False, text=True
    )
    if mount.returncode:
        pytest.skip(f"no right to mount a small disk: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    place = Workspace(small_disk)
    with place.lock(), Store(place.database) as store:
        run = store.start_run(config(), {}, {})
        run.record_step(1, **step_rows("a"))
        path = place.checkpoints.save(run, 1, write, {"a": 1})
        with pytest.raises(UserError, match="disk is full"):
            place.checkpoints.save(run, 2, lambda folder: _fill(folder / "big.safetensors"), {})
        assert names(place.models) == ["checkpoint-0001"]
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            _fill(filler)
        with pytest.raises(UserError, match="disk is full"):
            for step in range(2, 500):
                run.record_step(step, **step_rows("a" * 50, "text " * 2000))
        filler.unlink()
        assert load_checkpoint(path).state == {"a": 1}
        again = store.resume_run(run.id, 1, name=run.name, config=run.config, versions={}, describe={})
        again.record_step(2, **step_rows("b"))
        assert store.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert place.checkpoints.save(again, 2, write, {}).name == "checkpoint-0002"


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 65536)


def test_what_a_killed_process_left_is_mended(place: Workspace, run: Run) -> None:
    whole = place.checkpoints.save(run, 10, write, {"a": 1})
    displaced = place.models / ".checkpoint-0010.old"
    os.rename(whole, displaced)
    for leftover in (".checkpoint-0020.partial", ".checkpoint-0005.trash"):
        (place.models / leftover).mkdir()
        touch(place.models / leftover / "state.json")
    (place.models / ".keep").touch()
    with place.lock():
        assert names(place.models) == [".keep", "checkpoint-0010"]
    assert load_checkpoint(whole).state == {"a": 1}


def test_other_resolved_values_are_refused_by_name() -> None:
    check_same({"model.threads": 2, "x": 1}, {"model.threads": 2, "x": 1})
    with pytest.raises(UserError, match=r"model.threads was 2, now 4.*--set model.threads=2"):
        check_same({"model.threads": 2, "x": 1}, {"model.threads": 4, "x": 1})
    with pytest.raises(UserError, match="held-out tasks was a, now b; restore"):
        check_same({"held-out tasks": "a"}, {"held-out tasks": "b"})


def test_the_manifest_lists_every_file(place: Workspace, run: Run) -> None:
    path = Checkpoints(place.models).save(run, 1, write, {})
    files = json.loads((path / "manifest.json").read_text())["files"]
    on_disk = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert set(files) == on_disk - {"manifest.json"}
    assert all(files[name]["size"] == (path / name).stat().st_size for name in files)


@pytest.mark.parametrize(
    ("devices", "mend"), [(("cpu", "cuda"), "--set model.device=cpu"), (("metal", "cpu"), "restore what it was")]
)
def test_another_device_is_refused_and_how_to_get_the_first_is_said(devices: tuple[str, str], mend: str) -> None:
    saved, now = ({"threads": 2, "device": device} for device in devices)
    with pytest.raises(UserError, match=mend):
        _check_resolved({"resolved": saved, "held_out": ""}, HeldOut(), now)


def of_another_version(
    place: Workspace, run: Run, patch: pytest.MonkeyPatch, section: str, key: str, value: Any
) -> Path:
    stored = module.stored_config(run.config)
    stored[section] = stored.get(section, {}) | {key: value}
    patch.setattr(module, "stored_config", lambda _: stored)
    return place.checkpoints.save(run, 10, write, {"a": 1})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("curriculum", "means", ["band", "of another version"]), ("tasks", "new", 1), ("elsewhere", "key", "x")],
)
def test_keys_of_another_version_are_named_and_have_their_defaults(
    place: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch, section: str, key: str, value: Any
) -> None:
    loaded = load_checkpoint(of_another_version(place, run, monkeypatch, section, key, value))
    assert loaded.foreign == (section if section == "elsewhere" else f"{section}.{key}",)
    assert loaded.config == run.config


def test_a_model_of_another_version_is_refused(place: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"another version's: this AZR does not accept model\.new"):
        load_checkpoint(of_another_version(place, run, monkeypatch, "model", "new", 1))

"""Checkpoints that are damaged, a stranger's, or none: each is named, and leads nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_samples import names, touch, write

from azr import checkpoint as module
from azr.checkpoint import FORMAT, load_checkpoint, run_of
from azr.errors import UserError
from azr.store import Run
from azr.workspace import Workspace

pytest_plugins = ["checkpoint_samples"]


@pytest.mark.parametrize(
    "name", ["adapter.safetensors", "optimizer/state.safetensors", "state.json", "config.json", "versions.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_each_damaged_file_is_named(place: Workspace, run: Run, name: str, damage: str) -> None:
    path = place.checkpoints.save(run, 1, write, {"a": 1})
    file = path / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(UserError, match=str(file)):
        load_checkpoint(path)


def test_a_damaged_manifest_is_named(place: Workspace, run: Run) -> None:
    path = place.checkpoints.save(run, 1, write, {})
    manifest = path / "manifest.json"
    text = manifest.read_text()
    for damaged in (text[:-20], "", "[]", "[" * 100_000, text.replace('"step":1', '"step":2'), '{"format":1}'):
        manifest.write_text(damaged)
        with pytest.raises(UserError, match=r"manifest\.json"):
            load_checkpoint(path)
        assert run_of(path) == "unreadable"
    manifest.unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "forged",
    [{"run_name": "../../outside"}, {"run_name": "/tmp/there"}, {"run_name": ".."}, {"run_name": 3}, {"step": "1"},
     {"step": -1}, {"run_id": None}, {"files": []}, {"files": {"state.json": 7}}],
)  # fmt: skip
def test_a_strangers_manifest_leads_nowhere(place: Workspace, run: Run, forged: dict[str, Any]) -> None:
    """Its values become folders' names: it may agree with its own digest and be forged all the same."""
    path = place.checkpoints.save(run, 1, write, {})
    manifest = json.loads((path / "manifest.json").read_text()) | forged
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest | {"sha256": module._digest(manifest)}))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        load_checkpoint(path)
    place.checkpoints.claim("another run")
    assert names(place.models) == ["unreadable"] and names(place.root) == ["data", "models"]


@pytest.mark.parametrize("values", [[], {"train": 3}])
def test_a_strangers_configuration_that_is_none_is_one_line(place: Workspace, run: Run, values: Any) -> None:
    path = place.checkpoints.save(run, 1, write, {})
    (path / "config.json").write_text(json.dumps(values))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    manifest |= module._manifest(path, run, 1)
    manifest["files"].pop("manifest.json")
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest | {"sha256": module._digest(manifest)}))
    with pytest.raises(UserError, match="holds no configuration"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "payload.pkl", "optimizer/extra.json"])
def test_a_file_that_was_added_is_refused(place: Workspace, run: Run, name: str) -> None:
    path = place.checkpoints.save(run, 1, write, {})
    touch(path / name)
    with pytest.raises(UserError, match="does not belong"):
        load_checkpoint(path)


def test_a_link_to_somewhere_else_is_refused(place: Workspace, run: Run, tmp_path: Path) -> None:
    path = place.checkpoints.save(run, 1, write, {})
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (path / "adapter.safetensors").unlink()
    (path / "adapter.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="does not belong"):
        load_checkpoint(path)


def test_a_hidden_file_of_a_file_manager_does_no_harm(place: Workspace, run: Run) -> None:
    path = place.checkpoints.save(run, 1, write, {})
    touch(path / ".DS_Store")
    assert load_checkpoint(path).step == 1


def test_a_newer_format_is_refused(place: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT", FORMAT + 1)
        path = place.checkpoints.save(run, 1, write, {})
    with pytest.raises(UserError, match="newer AZR"):
        load_checkpoint(path)


def test_a_path_that_is_no_checkpoint(place: Workspace, run: Run) -> None:
    place.checkpoints.save(run, 7, write, {})
    with pytest.raises(UserError, match=r"no checkpoint at .*0008: there are .*checkpoint-0007"):
        load_checkpoint(place.models / "checkpoint-0008")
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(place.root / "nowhere" / "checkpoint-0001")
    with pytest.raises(UserError, match="is no checkpoint"):
        load_checkpoint(place.models)

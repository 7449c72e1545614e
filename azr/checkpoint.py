"""STORED: checkpoints as folders of safetensors and JSON, written whole or not at all.

`models/checkpoint-0020` holds what `policy.save` wrote, `state.json` (buffers, curriculum, alarms; every random number
follows from the run's seed, the step and the phase), `config.json`, `versions.json`, and `manifest.json` with the size
and SHA-256 of each. It is written as
`.checkpoint-0020.partial`, flushed to the disk, and renamed. A folder about to be replaced is `.checkpoint-0020.old`
for the moment between two renames, and one about to be deleted is `.checkpoint-0020.trash`; `recover` mends what a
killed process left. No pickle is written or read: a stranger's checkpoint can hold numbers and text, no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from azr.config import Config
from azr.errors import UserError, is_disk_full
from azr.rows import from_json, stored_config, to_json
from azr.store import Run

FORMAT = 2  # of the state too: one of an older format can be evaluated, but not resumed
SUFFIXES = (".safetensors", ".json")
MANIFEST = "manifest.json"
ROLLED_BACK = "rolled-back"  # folder of checkpoints whose steps are no longer in the store
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME = re.compile(r"checkpoint-(\d{4,})")
_LEFTOVER = re.compile(r"\.(checkpoint-\d{4,})\.(partial|trash|old)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose every file has been verified; `policy.load(path)` reads the rest."""

    path: Path
    step: int
    run_id: int
    run_name: str
    config: Config
    state: dict[str, Any]
    format_version: int
    foreign: tuple[str, ...] = ()  # keys of its configuration that this version does not take: `config` has defaults


class Checkpoints:
    """The folder models/: the current run's checkpoints, and a folder for each older run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, run: Run, step: int, write: Callable[[Path], None], state: Mapping[str, Any]) -> Path:
        """Write `checkpoint-NNNN` atomically, then delete all but the newest `train.keep_checkpoints` of this run.

        `write` puts the policy's files into the folder it is given. `state` is JSON: text keys, finite numbers.
        Raises UserError when the disk is full; every earlier checkpoint stays as it was.
        """
        target = self.folder / f"checkpoint-{step:04d}"
        partial = self.folder / f".{target.name}.partial"
        _check_json(state, "state")
        try:
            _remove(partial)
            partial.mkdir(parents=True)
            write(partial)
            _write(partial / "state.json", state)
            _write(partial / "config.json", stored_config(run.config))
            _write(partial / "versions.json", run.versions)
            _write(partial / MANIFEST, _manifest(partial, run, step))
            _sync(partial)
            self._put(partial, target)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            if is_disk_full(error):
                raise UserError(
                    f"the disk is full: {target} was not written, earlier checkpoints are whole; free some space, "
                    f"then resume from {self.latest(run.name) or 'the start'}"
                ) from error
            if isinstance(error, OSError):
                raise UserError(
                    f"{target} was not written ({error.strerror or error}): earlier checkpoints are whole"
                ) from error
            raise
        self._prune(run)
        return target

    def latest(self, run_name: str | None = None) -> Path | None:
        """The newest checkpoint in models/ itself, of `run_name` or of any run."""
        paths = [path for path in self._list() if run_name in (None, run_of(path))]
        return paths[-1] if paths else None

    def claim(self, run_name: str, after_step: int | None = None) -> None:
        """Make room for a run that starts, or goes on after `after_step`. Nothing is deleted.

        Other runs' checkpoints move to models/RUN/. So do this run's own from later steps: their rows are about to be
        rolled back, so nobody can resume from them; call this before `Store.resume_run`.
        """
        for path in self._list():
            owner = run_of(path)
            if owner != run_name:
                _move(path, self.folder / owner)
            elif after_step is not None and _step_of(path) > after_step:
                _move(path, self.folder / owner / ROLLED_BACK)

    def recover(self) -> None:
        """Undo or complete what a killed process left: partial and condemned folders go, a displaced one comes back."""
        for path in sorted(self.folder.glob(".checkpoint-*")):
            match = _LEFTOVER.fullmatch(path.name)
            if match is None:
                continue
            target = self.folder / match[1]
            if match[2] == "old" and not target.exists():
                os.rename(path, target)
            else:
                _remove(path)

    def _list(self) -> list[Path]:
        paths = (path for path in self.folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir())
        return sorted(paths, key=_step_of)

    def _put(self, partial: Path, target: Path) -> None:
        displaced = self.folder / f".{target.name}.old"
        if target.exists():
            _remove(displaced)
            os.rename(target, displaced)
        os.rename(partial, target)
        _sync_folder(self.folder)
        _remove(displaced)

    def _prune(self, run: Run) -> None:
        own = [path for path in self._list() if run_of(path) == run.name]
        for path in own[: -run.config.train.keep_checkpoints]:
            trash = self.folder / f".{path.name}.trash"
            _remove(trash)
            os.rename(path, trash)  # so that no kill leaves half a checkpoint under a good name
            _remove(trash)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint. Raises UserError naming the file that is missing, altered, or not allowed."""
    if not path.is_dir():
        near = ", ".join(str(other) for other in Checkpoints(path.parent)._list()[-3:]) if path.parent.is_dir() else ""
        raise UserError(f"no checkpoint at {path}: {f'there are {near}' if near else 'give a folder checkpoint-NNNN'}")
    manifest = _read_manifest(path)
    _verify(path, manifest["files"])
    values = {name: _read(path / f"{name}.json") for name in ("state", "config")}
    config, foreign = _config(values["config"], path)
    return Checkpoint(
        path=path,
        step=manifest["step"],
        run_id=manifest["run_id"],
        run_name=manifest["run_name"],
        config=config,
        state=values["state"],
        format_version=manifest["format"],
        foreign=foreign,
    )


def _config(values: dict[str, Any], path: Path) -> tuple[Config, tuple[str, ...]]:
    """The configuration, and the keys that this version does not take: they have their defaults, unless they are the
    model's. Raises UserError where it cannot be read."""
    try:
        return Config.model_validate(values), ()
    except ValidationError as error:
        if not isinstance(values, dict) or not all(isinstance(keys, dict) for keys in values.values()):
            raise UserError(f"{path / 'config.json'} holds no configuration: use another checkpoint") from error
        foreign = tuple(sorted({".".join(map(str, item["loc"][:2])) for item in error.errors()}))
    known = {
        section: {key: value for key, value in keys.items() if f"{section}.{key}" not in foreign}
        for section, keys in values.items()
        if section not in foreign
    }
    try:
        if not any(key == "model" or key.startswith("model.") for key in foreign):
            return Config.model_validate(known), foreign
    except ValidationError as error:
        foreign = tuple(str(item["msg"]) for item in error.errors())
    raise UserError(f"{path / 'config.json'} is another version's: this AZR does not accept {', '.join(foreign)}")


def run_of(path: Path) -> str:
    """The name of the run that wrote this checkpoint; "unreadable" if its manifest is damaged."""
    try:
        return str(_read_manifest(path)["run_name"])
    except UserError:
        return "unreadable"


def check_same(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse to resume where a resolved value differs. Keys with a dot are configuration keys (`model.threads`).

    Raises UserError that names each key with both values, and how to get the saved one.
    """
    differing = sorted(key for key in saved.keys() | current.keys() if saved.get(key) != current.get(key))
    if not differing:
        return
    changes = ", ".join(f"{key} was {saved.get(key)}, now {current.get(key)}" for key in differing)
    options = " ".join(f"--set {key}={saved.get(key)}" for key in differing if "." in key)
    mend = f"resume with {options}" if options else "restore what it was"
    raise UserError(f"the run would not continue exactly: {changes}; {mend}, or start a new run")


def _manifest(folder: Path, run: Run, step: int) -> dict[str, Any]:
    files = {}
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        if file.suffix not in SUFFIXES:
            raise ValueError(f"{name} in a checkpoint: only {', '.join(SUFFIXES)} may be written")
        files[name] = {"size": file.stat().st_size, "sha256": _sha256(file)}
    manifest = {"format": FORMAT, "step": step, "run_id": run.id, "run_name": run.name, "files": files}
    return manifest | {"sha256": _digest(manifest)}


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise UserError(f"{path} is no checkpoint, or an incomplete one: {MANIFEST} is missing")
    manifest = _read(file)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise UserError(f"{file} is damaged: use another checkpoint")
    if manifest["format"] > FORMAT:
        raise UserError(
            f"{path} was written by a newer AZR (format {manifest['format']}, this one reads {FORMAT}): update AZR"
        )
    if manifest.pop("sha256", None) != _digest(manifest) or not _is_sound(manifest):
        raise UserError(f"{file} is damaged: use another checkpoint")
    return manifest


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the values have their types, and the run's name can be a folder's: a stranger may have written them."""
    numbers = (manifest.get("step"), manifest.get("run_id"))
    name, files = manifest.get("run_name"), manifest.get("files")
    named = isinstance(name, str) and _RUN_NAME.fullmatch(name) is not None
    counted = all(type(number) is int and number >= 0 for number in numbers)
    return named and counted and isinstance(files, dict) and all(isinstance(file, dict) for file in files.values())


def _verify(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    found = {file.relative_to(path).as_posix(): file for file in _files(path)}
    found.pop(MANIFEST)
    for name in sorted(found.keys() | files.keys()):
        file = path / name
        if name not in found:
            raise UserError(f"{file} is missing: the checkpoint is incomplete, use another one")
        if name not in files or file.suffix not in SUFFIXES or file.is_symlink():
            raise UserError(f"{file} does not belong to the checkpoint: remove it, or use another one")
        if file.stat().st_size != files[name].get("size"):
            raise UserError(
                f"{file} has {file.stat().st_size} bytes instead of {files[name].get('size')}: use another checkpoint"
            )
        if _sha256(file) != files[name].get("sha256"):
            raise UserError(f"{file} was altered (its SHA-256 differs from the manifest): use another checkpoint")


def _files(folder: Path) -> list[Path]:
    """Every file below `folder`; hidden ones, such as a file manager leaves, are not ours."""
    return sorted(file for file in folder.rglob("*") if not file.is_dir() and not file.name.startswith("."))


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _write(file: Path, value: Any) -> None:
    file.write_bytes(to_json(value).encode())


def _read(file: Path) -> Any:
    try:
        return from_json(file.read_bytes().decode())
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}): use another checkpoint") from error


def _check_json(value: Any, where: str) -> None:
    """What JSON would lose (keys that are no text, NaN) or refuse is our bug, found before anything is written."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: JSON keys are text")
            _check_json(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: not JSON")
    elif value is not None and not isinstance(value, (str, int)):
        raise TypeError(f"{where} is a {type(value).__name__}: not JSON")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Of a checkpoint that was moved elsewhere, the link to it."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _move(path: Path, folder: Path) -> None:
    """Into `folder`, under a new name if the old one is taken: nothing is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        number += 1
        target = folder / f"{path.name}-{number}"
    os.rename(path, target)

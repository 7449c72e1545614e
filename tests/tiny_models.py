"""Tiny random models of other architectures than the default Llama, with its tokenizer."""

from __future__ import annotations

from pathlib import Path


def add_thinking_tags(folder: Path) -> Path:
    """Gives a tiny model's tokenizer `<think>` and `</think>`, as token 258 and 259."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_qwen3(folder: Path) -> Path:
    """A random Qwen3: norms of queries and keys, a head size of its own, an untied head."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    from azr.policy.models import make_tiny_model

    make_tiny_model(folder)
    config = Qwen3Config(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=0, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder

"""A tiny language model that has learnt, in a few seconds, to propose and answer: real text, real learning, no wait."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from azr import prompts
from azr.prompts import Example
from azr.records import Pair, Task

PROPOSALS = [
    ("(a):\n    return a + 1", "3", "4"),
    ("(a):\n    return a * 2", "4", "8"),
    ("(a):\n    return [a]", "5", "[5]"),
    ("(s):\n    return s + s", "'x'", "'xx'"),
    ("(a):\n    return -a", "7", "-7"),
    ("(a):\n    return a == 2", "2", "True"),
    ("(a):\n    return a - 3", "9", "6"),
    ("(a):\n    return a // 2", "8", "4"),
    ("(a):\n    return [a, a]", "6", "[6, 6]"),
    ("(s):\n    return s[0]", "'abc'", "'a'"),
]


def _documents(rng: random.Random) -> tuple[str, str]:
    """A prompt of the loop and what a good player would write after it."""
    body, given, output = rng.choice(PROPOSALS)
    kind = rng.randrange(3)
    if kind == 0:
        shown = rng.choices(PROPOSALS, k=rng.randrange(1, 3))
        references = [Example(f"def f{b}", (i,)) for b, i, _ in shown] + rng.choices(prompts.FORMAT_EXAMPLES, k=1)
        rng.shuffle(references)
        return prompts.propose_completion(references), f"{body}\n\nf({given})\n```"
    pair = (Pair(given, output, b""),)
    if kind == 1:
        return prompts.solve_completion(Task("deduction", f"def f{body}", pair)), f" {output}\n"
    return prompts.solve_completion(Task("abduction", f"def f{body}", pair)), f"({given})\n"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model; `model.name` takes it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from azr.policy.models import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    for parameter in model.parameters():  # the random start is made to be loud; a learner wants a quiet one
        if parameter.dim() > 1:
            parameter.data.mul_(0.25)
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=3e-3), random.Random(0)
    for _ in range(400):
        rows = []
        length = rng.choice((40, 40, 500))  # short contexts are cheap, long ones are what the loop has
        for prompt, answer in (_documents(rng) for _ in range(8)):
            context = tokenizer(prompt, add_special_tokens=False).input_ids[-length:]
            rows.append((context, tokenizer(answer, add_special_tokens=False).input_ids))
        width = max(len(c) + len(a) for c, a in rows)
        ids = torch.tensor([c + a + [0] * (width - len(c) - len(a)) for c, a in rows])
        labels = torch.tensor([[-100] * len(c) + a + [-100] * (width - len(c) - len(a)) for c, a in rows])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    torch.set_num_threads(threads)
    return folder

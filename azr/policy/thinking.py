"""A bounded thought: where it has used up its tokens it is closed, so that an answer can follow.

Models that think write `<think>`, a thought and `</think>`; both tags are one token each (Qwen3, and what descends from
it). What is written for a model counts as sampled by nobody: nothing is learnt from it (`Completion.forced`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OPEN, CLOSE = "<think>", "</think>"
CLOSING = "\n</think>\n\n"


class ThinkingBudget:
    """What must follow a thought that is still open after `tokens` tokens of a completion.

    Never anything with 0 tokens, or for a tokenizer without the two tags.
    """

    def __init__(self, tokenizer: Any, tokens: int) -> None:
        self.tokens = tokens
        self.closing: tuple[int, ...] = ()
        tags = tokenizer.get_added_vocab() if tokens else {}
        if OPEN in tags and CLOSE in tags:
            self.open, self.close = tags[OPEN], tags[CLOSE]
            self.closing = tuple(tokenizer.encode(CLOSING, add_special_tokens=False))

    def next(self, prompt: Sequence[int], ids: Sequence[int]) -> int | None:
        """The token that must follow `ids`, a completion's tokens so far; None where the model chooses."""
        place = len(ids) - self.tokens
        if not 0 <= place < len(self.closing) or not self._is_open(prompt, ids):
            return None
        return self.closing[place]

    def forced(self, prompt: Sequence[int], ids: Sequence[int]) -> tuple[int, int]:
        """The tokens that were written for the model: the first, and the one after the last. (0, 0) for none."""
        if len(ids) <= self.tokens or not self.closing or not self._is_open(prompt, ids):
            return 0, 0
        return self.tokens, min(len(ids), self.tokens + len(self.closing))

    def _is_open(self, prompt: Sequence[int], ids: Sequence[int]) -> bool:
        """Whether the thought was open when its tokens were used up. Some templates open it in the prompt."""
        tags = [i for i in (*prompt[-8:], *ids[: self.tokens]) if i in (self.open, self.close)]
        return bool(tags) and tags[-1] == self.open

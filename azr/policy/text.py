"""Text in and out of a tokenizer: nothing that a model wrote may crash it or be read as a control token."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from azr.errors import UserError
from azr.records import StopReason


def clean(text: str) -> str:
    """Lone surrogates, which no tokenizer takes, become U+FFFD; everything else, NUL bytes too, stays."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode(tokenizer: Any, text: str, control_tokens: bool) -> tuple[int, ...]:
    """Token ids of a prompt; never empty. Spelled-out control tokens count as such only with `control_tokens`."""
    ids = tokenizer(clean(text), add_special_tokens=not control_tokens, split_special_tokens=not control_tokens)[
        "input_ids"
    ]
    if not ids:
        ids = [next(i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if i is not None)]
    return tuple(ids)


def disarm(tokenizer: Any, text: str) -> str:
    """The text with every spelled-out control token broken by a space after its first character."""
    for token in sorted(map(str, tokenizer.get_added_vocab()), key=len, reverse=True):
        if len(token) > 1 and not token.isspace():  # some vocabularies have runs of spaces: indentation
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def chat_prompt(tokenizer: Any, user: str, thinking: bool) -> str:
    """One user turn in the model's own chat template; control tokens spelled out in it are broken by a space.

    Templates of models that think when they like (Qwen3's) close the thinking at once unless `thinking`. Raises
    UserError for a model without a template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{tokenizer.name_or_path or 'the model'} has no chat template: take --protocol completion, or "
            "model.style=completion"
        )
    turn = [{"role": "user", "content": disarm(tokenizer, clean(user))}]
    prompt: str = tokenizer.apply_chat_template(
        turn, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    return prompt


class StopFinder:
    """Finds stop strings in growing completions, across token boundaries."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(s for s in stop if s)

    def decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def cut(self, ids: list[int]) -> str | None:
        """The text before the first stop string if the newest token completed one, else None."""
        if not self.stop or ids[-1] not in self._finals:
            return None
        text = self.decode(ids)
        found = [place for place in (text.find(s) for s in self.stop) if place >= 0]
        return text[: min(found)] if found else None

    @cached_property
    def _finals(self) -> frozenset[int]:
        """Tokens that can complete a stop string: only after these is the completion decoded."""
        ends = {s[-1] for s in self.stop}
        return frozenset(i for i, text in enumerate(_vocabulary(self.tokenizer)) if _may_end(text, ends))


def ending(stops: StopFinder, ids: list[int], end_ids: set[int], last: bool) -> tuple[str, StopReason] | None:
    """Text and stop reason of a completion if its newest token ended it (`last`: no more may follow), else None."""
    text = stops.cut(ids)
    if ids[-1] in end_ids:
        return stops.decode(ids[:-1]), "eos"
    if text is not None:
        return text, "stop"
    return (stops.decode(ids), "length") if last else None


def _may_end(text: str, ends: set[str]) -> bool:
    # A piece of a character decodes to U+FFFD, and some tokenizers drop spaces: both may end anything.
    return not text.strip(" ") or "\ufffd" in text or any(end == " " or end in text for end in ends)


_vocabularies: dict[int, tuple[Any, list[str]]] = {}


def _vocabulary(tokenizer: Any) -> list[str]:
    """The text of every token alone; computed once a tokenizer."""
    known = _vocabularies.get(id(tokenizer))
    if known is None or known[0] is not tokenizer:
        pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
        known = _vocabularies[id(tokenizer)] = (tokenizer, pieces)
    return known[1]

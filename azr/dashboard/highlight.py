"""Python text as tokens for the page: `[[class, text], …]`, to be shown as text, never as markup."""

from __future__ import annotations

from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

LONGEST = 20_000  # characters: beyond it a text is shown plain
_CLASSES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "comment"),
    (Keyword, "keyword"),
    (Operator.Word, "keyword"),
    (String, "string"),
    (Number, "number"),
    (Name.Function, "function"),
    (Name.Class, "function"),
    (Name.Builtin, "builtin"),
)


def highlight(text: str) -> list[list[str]]:
    """The pieces of `text`, in order; joined they are `text`."""
    if len(text) > LONGEST:
        return [["", text]]
    pieces: list[list[str]] = []
    for _, kind, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens_unprocessed(text):
        name = next((name for token, name in _CLASSES if kind in token), "")
        if pieces and pieces[-1][0] == name:
            pieces[-1][1] += value
        else:
            pieces.append([name, value])
    return pieces

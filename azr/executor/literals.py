"""Reading answers and inputs as literals. Model-written text is never evaluated, and never reaches Python's parser.

The grammar is that of `ast.literal_eval` without comments, plus `inf`, `nan` and `frozenset(...)`, because that is how
Python prints them. Only a single string token with a backslash in it is handed to `ast.literal_eval`, for its escapes.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any, NoReturn

from azr.executor.values import MAX_DEPTH, MAX_NODES, Value

MAX_CHARACTERS = 4 * 64 * 1024

_DIGITS = r"[0-9](?:_?[0-9])*"
_FLOAT = rf"(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][-+]?{_DIGITS})?|{_DIGITS}[eE][-+]?{_DIGITS}"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\f\r\n]+)
    |(?P<string>(?:[bB][rR]?|[rR][bB]?|[uU])?(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
        |'(?!'')(?:[^'\\\r\n]|\\.)*'|"(?!"")(?:[^"\\\r\n]|\\.)*"))
    |(?P<imaginary>(?:{_FLOAT}|{_DIGITS}|inf|nan)[jJ])(?!\w)
    |(?P<float>{_FLOAT})(?!\w)
    |(?P<integer>0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|[1-9](?:_?[0-9])*|0(?:_?0)*)(?![\w.])
    |(?P<name>[A-Za-z_]\w*)
    |(?P<mark>[][(){{}},:+-])""",
    re.VERBOSE | re.DOTALL,
)
_NAMES = {"None": None, "True": True, "False": False, "inf": float("inf"), "nan": float("nan")}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class NotALiteral(ValueError):
    """The text is no literal; the message says why."""


def parse_literal(text: str) -> Value:
    """The value of one literal; whitespace around it is ignored. Raises NotALiteral."""
    parser = _Parser(text.strip(), newlines=False)
    items, is_tuple = parser.items("")
    if not items:
        raise NotALiteral("empty")
    return tuple(items) if is_tuple else items[0]


def parse_arguments(text: str) -> tuple[Value, ...]:
    """The values of an argument list such as `1, [2]`; empty text is an empty list. Raises NotALiteral."""
    return tuple(_Parser(text.strip(), newlines=True).items("")[0])


class _Parser:
    """Recursive descent over the tokens; the depth is bounded by the values' own budget."""

    def __init__(self, text: str, newlines: bool) -> None:
        if len(text) > MAX_CHARACTERS:
            raise NotALiteral("too long")
        if "\0" in text:
            raise NotALiteral("a NUL character")
        self.tokens = _tokens(text, newlines)
        self.position = 0
        self.depth = 0

    @property
    def next(self) -> tuple[str, str]:
        return self.tokens[self.position]

    def fail(self) -> NoReturn:
        raise NotALiteral(f"unexpected {self.next[1][:20]!r}" if self.next[1] else "unexpected end")

    def accept(self, mark: str) -> bool:
        found = self.next == ("mark", mark)
        self.position += found
        return found

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail()

    def items(self, closing: str) -> tuple[list[Value], bool]:
        """Values between commas up to `closing` (or the end), and whether there was a comma."""
        values: list[Value] = []
        comma = False
        while not self.at(closing):
            if values and not comma:
                self.fail()
            values.append(self.value())
            comma = self.accept(",")
            if not comma and not self.at(closing):
                self.fail()
        self.position += bool(closing)
        return values, comma or len(values) > 1

    def at(self, closing: str) -> bool:
        return self.next == (("mark", closing) if closing else ("end", ""))

    def value(self) -> Value:
        kind, text = self.next
        if kind == "string":
            return self.strings()
        if kind == "name":
            return self.name(text)
        if kind == "mark" and text in _CLOSING:
            self.position += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotALiteral("nested too deep")
            value = self.braces() if text == "{" else self.sequence(text)
            self.depth -= 1
            return value
        return self.number()

    def sequence(self, opening: str) -> Value:
        items, is_tuple = self.items(_CLOSING[opening])
        if opening == "[":
            return items
        return tuple(items) if is_tuple or not items else items[0]

    def braces(self) -> Value:
        if self.accept("}"):
            return {}
        first = self.value()
        if not self.accept(":"):
            items = [first]
            if self.accept(","):
                items += self.items("}")[0]
            else:
                self.expect("}")
            return self.hashable(set, items)
        pairs = [(first, self.value())]
        while self.accept(",") and self.next != ("mark", "}"):
            key = self.value()
            self.expect(":")
            pairs.append((key, self.value()))
        self.expect("}")
        return self.hashable(dict, pairs)

    def hashable(self, build: type, items: list[Any]) -> Value:
        try:
            return build(items)
        except TypeError:
            raise NotALiteral("an unhashable key or set element") from None

    def name(self, text: str) -> Value:
        if text in ("inf", "nan"):
            return self.number()
        self.position += 1
        if text in _NAMES:
            return _NAMES[text]
        if text in ("set", "frozenset") and self.accept("("):
            if self.accept(")"):
                return set() if text == "set" else frozenset()
            if text == "frozenset":
                self.expect("{")
                value = self.braces()
                self.accept(",")
                self.expect(")")
                if type(value) is set:
                    return frozenset(value)
        raise NotALiteral(f"the name {text[:20]!r}")

    def strings(self) -> Value:
        parts = []
        while self.next[0] == "string":
            parts.append(_string(self.next[1]))
            self.position += 1
        if len({type(part) for part in parts}) > 1:
            raise NotALiteral("mixed str and bytes")
        empty: Any = type(parts[0])()
        return empty.join(parts)

    def number(self) -> Value:
        value = self.signed()
        if type(value) is not complex and self.next[1] in ("+", "-") and self.next[0] == "mark":
            minus = self.next[1] == "-"
            self.position += 1
            if self.next[0] != "imaginary":
                self.fail()
            imaginary = self.unsigned()
            try:
                value = value - imaginary if minus else value + imaginary
            except OverflowError:
                raise NotALiteral("a number that is too large") from None
        return value

    def signed(self) -> Value:
        if self.accept("-"):
            return -self.unsigned()
        self.accept("+")
        return self.unsigned()

    def unsigned(self) -> Value:
        kind, text = self.next
        if kind not in ("integer", "float", "imaginary") and text not in ("inf", "nan"):
            self.fail()
        self.position += 1
        try:
            if kind == "integer":
                return int(text, 0)
            return complex(text.replace("_", "")) if kind == "imaginary" else float(text)
        except ValueError:
            raise NotALiteral("a number with too many digits") from None


def _tokens(text: str, newlines: bool) -> list[tuple[str, str]]:
    """(kind, text) of every token and ("end", ""). A line break outside brackets counts only if `newlines`."""
    tokens: list[tuple[str, str]] = []
    position, depth = 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotALiteral(f"unexpected {text[position : position + 20]!r}")
        position = match.end()
        kind, token = str(match.lastgroup), match.group()
        if kind == "space":
            if not newlines and depth == 0 and ("\n" in token or "\r" in token):
                raise NotALiteral("more than one line")
            continue
        depth += (token in _CLOSING) - (token in ("]", ")", "}"))
        tokens.append((kind, token))
        if len(tokens) > 4 * MAX_NODES:
            raise NotALiteral("too long")
    return [*tokens, ("end", "")]


def _string(token: str) -> str | bytes:
    if token[0] in "'\"" and "\\" not in token and "\n" not in token and "\r" not in token:
        quote = 3 if token[:3] in ("'''", '"""') else 1
        text = token[quote:-quote]
        if text.isascii():
            return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape is kept as it stands, as Python does
            value = ast.literal_eval(token)
    except (SyntaxError, ValueError, MemoryError, UnicodeError):
        raise NotALiteral("a malformed string") from None
    assert isinstance(value, (str, bytes))
    return value

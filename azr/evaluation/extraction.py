"""From what a model wrote to the program, or the literal, that is judged. Python's own parser decides, never a guess.

Thinking is dropped first: everything up to `</think>`. Where text is cut off (a code block that never ends), what is
there still counts if it is a program. What was left out: repairing code that does not parse.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

LONGEST = 200_000  # characters; nothing longer is read
_LINES_TRIED = 200  # of text without a code block, from its end, when the end of a program is looked for
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+-]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("", "python", "python3", "py", "py3")
_BUILTINS = frozenset(dir(builtins))
_START = re.compile(r"^(?:def |class |import |from |async def |@)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The program or literal to judge, or why there is none: no_code, syntax_error or truncated."""

    solution: str | None
    reason: str = ""


def after_thinking(text: str) -> str | None:
    """What follows the thinking; None if the thinking never ends."""
    _thinking, tag, rest = text.rpartition("</think>")
    if tag:
        return rest
    return None if "<think>" in text else text


def parses(source: str) -> bool:
    return _tree(source) is not None


def _tree(source: str) -> ast.Module | None:
    if len(source) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is a warning, and legal
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def extract_program(text: str, entry: str = "", truncated: bool = False) -> Extraction:
    """The program in a free answer: the last code block that parses and defines `entry`, else the longest that parses.

    Without code blocks, the text itself, or the longest run of lines in it that is a program.
    """
    rest = after_thinking(text)
    if rest is None or not rest.strip():
        return Extraction(None, "truncated" if truncated else "no_code")
    rest = rest[:LONGEST]
    answers = re.findall(r"<answer>((?:(?!<answer>).)*?)(?:</answer>|\Z)", rest, re.DOTALL)
    found = [_program_in(part, entry, truncated) for part in (*reversed(answers), rest)]
    programs = [one for one in found if one.solution is not None]
    # The last answer that defines what is asked for, else the last that is a program, else what the whole text lacks.
    defining = [one for one in programs if not entry or entry in defined_names(one.solution or "")]
    return (defining or programs or found[-1:])[0]


def _program_in(rest: str, entry: str, truncated: bool) -> Extraction:
    blocks = code_blocks(rest)
    found = [block for block in blocks if block.strip() and parses(block)]
    if not blocks:
        found = [rest] if parses(rest) and _is_code(rest) else []
    found = found or _programs_within(rest)
    defining = [block for block in found if not entry or entry in defined_names(block)]
    if defining:
        return Extraction(drop_main_checks(_with_helpers(defining[-1], found), entry))
    joined = "\n\n".join(found)
    if found and entry and entry in defined_names(joined):
        return Extraction(drop_main_checks(joined, entry))
    if found:
        return Extraction(max(found, key=len))
    looks_like_code = bool(blocks) or _START.search(rest)
    return Extraction(None, "truncated" if truncated else "syntax_error" if looks_like_code else "no_code")


def _with_helpers(program: str, blocks: list[str]) -> str:
    """The program after what earlier blocks offer of the names that it reads from its top level and does not bind.

    Of these blocks their own checks are left out, and examples: statements that use what only the program binds.
    """
    for block in reversed(blocks[: blocks.index(program)]):
        bound = _bound(program)
        later = bound - _bound(block) | defined_names(program)
        helpers = _cut(block, lambda node, later=later: _is_example(node, later))  # type: ignore[misc]
        offered = _bound(helpers) - (_BUILTINS - _functions(helpers))
        if (_free_names(program) - bound) & offered:
            program = put_before(program, helpers.strip("\n") + "\n\n")
    return program


def _is_example(node: ast.stmt, later: set[str]) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
        return False
    used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)}
    return _is_own_check(node) or bool(used & later)


def _functions(program: str) -> set[str]:
    """Functions and classes of the top level: they may take a builtin's name on purpose."""
    tree = _tree(program)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)} if tree else set()


def _bound(program: str) -> set[str]:
    """Names that the top level binds: defined, imported, assigned."""
    table = _table(program)
    symbols = table.get_symbols() if table else ()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}


def _free_names(program: str) -> set[str]:
    """Names that the program reads from its top level: no parameters, no variables of its functions."""

    def read(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from read(child)

    table = _table(program)
    return set(read(table)) if table else set()


def _table(program: str) -> symtable.SymbolTable | None:
    try:
        return symtable.symtable(program, "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return None


def put_before(program: str, first: str) -> str:
    """`first` and then the program, after imports from `__future__` and a docstring, which have to come first."""
    tree = _tree(program)
    last = 0
    for node in tree.body if tree else ():
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            last = node.end_lineno or node.lineno
        elif not _is_text(node):
            break
    lines = program.split("\n")
    return "\n".join(lines[:last]) + ("\n" if last else "") + first + "\n".join(lines[last:])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def code_blocks(text: str) -> list[str]:
    """The insides of the Markdown code blocks that are Python or unnamed; the last may lack its end."""
    blocks: list[str] = []
    position = 0
    while opening := _FENCE.search(text, position):
        closing = _FENCE.search(text, opening.end())
        while closing and closing[1]:  # a fence with a name opens a block, it ends none
            closing = _FENCE.search(text, closing.end())
        end = closing.start() if closing else len(text)
        if opening[1].lower() in _PYTHON:
            inside = text[opening.end() : end].strip("\n").removesuffix("```")
            blocks.append(textwrap.dedent(inside))  # a block within a list is indented as a whole
        position = closing.end() if closing else len(text)
    return blocks


def complete(stub: str, completion: str, entry: str = "", truncated: bool = False) -> Extraction:
    """The program that a completion of `stub` makes: the longest part, by lines, that parses."""
    lines = completion[:LONGEST].split("\n")
    for end in range(len(lines), 0, -1):
        source = stub + "\n".join(lines[:end])
        if parses(source) and (not entry or _has_body(source, entry)):
            return Extraction(drop_main_checks(source, entry))
        if len(lines) - end > _LINES_TRIED:
            break
    if not completion.strip():
        return Extraction(None, "no_code")
    return Extraction(None, "truncated" if truncated else "syntax_error")


def _has_body(source: str, entry: str) -> bool:
    """Whether the function does more than state its docstring."""
    tree = _tree(source)
    assert tree is not None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry]
    return not found or len(found[-1].body) > (ast.get_docstring(found[-1]) is not None)


def defined_names(source: str) -> set[str]:
    """Functions, classes and variables at the top level; methods of a class `Solution` too."""
    tree = _tree(source)
    names: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef) and node.name == "Solution":
            names |= {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def drop_main_checks(source: str, entry: str) -> str:
    """The program without its own checks at the top level: asserts, prints, and `if __name__ == "__main__"`.

    Only where a function is asked for. The other statements stay as they are, those on a check's line too.
    """
    return _cut(source, _is_own_check) if entry else source


def _cut(source: str, is_cut: Callable[[ast.stmt], bool]) -> str:
    """The program without these statements of its top level; as it is where that would be no program."""
    tree = _tree(source)
    if tree is None:
        return source
    plain = source.replace("\r\n", "\n").replace("\r", "\n")  # as the parser counts lines; columns it counts in bytes
    lines = plain.encode().split(b"\n")
    for node in reversed(tree.body):
        if is_cut(node):
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
            alone = not before.strip() and (not after.strip() or after.lstrip().startswith(b"#"))
            lines[first : last + 1] = [] if alone else [before + b"pass" + after]
    kept = b"\n".join(lines).decode()
    return kept if parses(kept) else source


def _is_own_check(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return "__name__" in {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        callee = node.value.func  # test_f(), unittest.main(), doctest.testmod()
        name = callee.id if isinstance(callee, ast.Name) else callee.attr if isinstance(callee, ast.Attribute) else ""
        return name in ("print", "check", "input", "main") or name.startswith("test")
    if isinstance(node, (ast.For, ast.While, ast.With, ast.Try)):
        return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
    return isinstance(node, ast.Assert)


def _is_code(text: str) -> bool:
    """A sentence can be Python by accident (`Yes`), a program has a statement that is more than a name."""
    tree = _tree(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body
    )


def _programs_within(text: str) -> list[str]:
    """The longest program that starts at each line which may start one, outermost first."""
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _START.match(line)]
    found: list[str] = []
    covered = 0
    for start in starts[:50]:
        if start < covered:
            continue
        for end in range(min(len(lines), start + _LINES_TRIED), start, -1):
            part = "\n".join(lines[start:end])
            if parses(part):
                found.append(part)
                covered = end
                break
    return found


def extract_literal(text: str, truncated: bool = False) -> Extraction:
    """The literal of an answer about a value: between [ANSWER] or <answer> tags, in a code block, or the whole text.

    Of `assert f(...) == value` and `f(...) == value` it is what follows `==`.
    """
    return _value(text, truncated, _right_side)


def extract_arguments(text: str, truncated: bool = False) -> Extraction:
    """The argument list of an answer about an input: of `f(...)`, of `assert f(...) == value`, or the text itself."""
    return _value(text, truncated, _arguments)


def _value(text: str, truncated: bool, read: object) -> Extraction:
    rest = after_thinking(text)
    if rest is None or not rest.strip():
        return Extraction(None, "truncated" if truncated else "no_code")
    rest = rest[:LONGEST]
    tagged = re.findall(r"(?:\[ANSWER\]|<answer>)(.*?)(?:\[/ANSWER\]|</answer>|\Z)", rest, re.DOTALL)
    rest = tagged[-1] if tagged else rest
    blocks = [block for block in code_blocks(rest) if block.strip()]
    rest = (blocks[-1] if blocks else rest).strip().strip("`").strip()
    answer = read(rest)  # type: ignore[operator]
    return Extraction(answer) if answer else Extraction(None, "truncated" if truncated else "no_code")


def _right_side(text: str) -> str:
    tree = _tree(text)
    if tree is not None and len(tree.body) == 1:
        statement = tree.body[0]
        test = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Call) and len(test.comparators) == 1:
            return _written(test.comparators, text)
    return text


def _arguments(text: str) -> str:
    tree = _tree(text)
    if tree is not None and len(tree.body) == 1:
        statement = tree.body[0]
        call = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
        call = call.left if isinstance(call, ast.Compare) else call
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "f" and not call.keywords:
            return _written(call.args, text)
    return text


def _written(values: Sequence[ast.expr], text: str) -> str:
    """The values as Python writes them; the whole text where it cannot (nested too deep, or a number too long)."""
    try:
        return ", ".join(map(ast.unparse, values))
    except (ValueError, RecursionError):
        return text

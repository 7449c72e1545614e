"""What the calls of a solution gave, compared with what was expected. Standard library only: the sandbox loads it too.

Answers are data from a process that held a solution. Building them can be made expensive (a set of numbers that all
collide), so they are compared in the sandbox; plain ones cost nothing and are compared where they arrive.
"""

from __future__ import annotations

import math
from typing import Any

from azr.executor.wire import Opaque, digest, unpack

Json = Any
MAX_PLAIN = 1000  # items of a list, characters of a text
_RELATIVE = 1e-07  # of numpy.allclose, as EvalPlus calls it


def are_plain(answers: list[Json]) -> bool:
    """Whether each answer is an exception, a short scalar, or a short flat list of them."""
    return all(isinstance(a, dict) and len(a) == 1 and ("e" in a or ("v" in a and _is_plain(a["v"]))) for a in answers)


def _is_plain(value: Json) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_PLAIN and all(_is_scalar(item) for item in value)
    return _is_scalar(value)


def _is_scalar(value: Json) -> bool:
    return (
        value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= MAX_PLAIN)
    )


def compare(job: dict[str, Json]) -> dict[str, Json]:
    """Whether each answer equals the expected one, by EvalPlus's rules: {"passed": ..., "kind", "reason"}."""
    for position, (given, expected) in enumerate(zip(job["answers"], job["expected"], strict=False)):
        if "e" in given:
            return {"passed": False, "kind": "exception", "reason": given["e"]}
        try:
            args = unpack(job["calls"][position]["args"])
            if "h" in given or "h" in expected:
                same = _digest(given) == _digest(expected)
            else:
                same = _same(unpack(given["v"]), unpack(expected["v"]), args, job["atol"], job["oracle"])
        except (ValueError, TypeError, RecursionError, OverflowError, ArithmeticError) as error:
            return {"passed": False, "kind": "wrong", "reason": f"input {position}: {type(error).__name__}"}
        if not same:
            return {"passed": False, "kind": "wrong", "reason": f"input {position}"}
    if len(job["answers"]) < len(job["expected"]):
        return {"passed": False, "kind": "wrong", "reason": "answers are missing"}
    return {"passed": True}


def _digest(answer: dict[str, Json]) -> str:
    return str(answer["h"]) if "h" in answer else digest(answer["v"])


def _same(given: Any, expected: Any, args: list[Any], atol: float, oracle: str) -> bool:
    if oracle == "equal":
        return bool(given == expected)
    if oracle == "apps":
        given = _lists(given)
        return bool(given == expected or (isinstance(expected, list) and expected and given == expected[0]))
    if oracle == "root":  # of the polynomial args[0]: any will do
        return abs(sum(c * math.pow(given, i) for i, c in enumerate(args[0]))) <= atol
    if oracle == "set":
        return set(given) == set(expected)
    if oracle == "not_none":
        return given == (expected is not None) if isinstance(given, bool) else (given is None) == (expected is None)
    if oracle == "pyramid" and isinstance(given, (int, float)) and abs(given - _pyramid_surface(*args)) <= atol:
        return True
    if oracle == "digits" and given == _digit_distance(*args):
        return True
    if oracle == "divisors" and args[0] <= 1 and given == 0:
        return True
    if given == expected:
        return True
    floats = isinstance(expected, float) or (
        isinstance(expected, (list, tuple)) and bool(expected) and all(isinstance(item, float) for item in expected)
    )
    atol = 1e-6 if atol == 0 and floats else atol
    return atol != 0 and type(given) is type(expected) and close(given, expected, atol, _RELATIVE)


def _lists(value: Any) -> Any:
    """Tuples as lists: APPS writes its expected values as JSON."""
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _pyramid_surface(base: float, height: float) -> int:
    """The height as the distance from the apex to the base: the other reading of Mbpp/581."""
    return round(base**2 + 2 * base * math.hypot(base / 2, height))


def _digit_distance(first: int, second: int) -> int:
    """Digit by digit, the shorter number padded with zeros: the other reading of Mbpp/558."""
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)


def close(given: Any, expected: Any, atol: float, rtol: float) -> bool:
    """numpy.allclose on nested sequences of numbers: |given - expected| <= atol + rtol·|expected|."""
    if isinstance(given, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(given) == len(expected) and all(
            close(a, b, atol, rtol) for a, b in zip(given, expected, strict=True)
        )
    if isinstance(given, (Opaque, list, tuple)) or isinstance(expected, (list, tuple)):
        return False
    if given == expected:
        return True
    return bool(abs(expected) != math.inf and abs(given - expected) <= atol + rtol * abs(expected))

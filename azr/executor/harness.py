"""What runs inside the sandbox during an evaluation. Standard library only.

A solution and the tests never share a process. `answer` runs a solution and returns what each call gave; `check` runs
the benchmark's own tests, in a process without the solution, on these recorded answers; `record` runs the tests with
the reference solution, to learn which calls they make; `run_stdin` runs a program that reads standard input. Whatever a
solution does to this module in its own process changes its own answers only: it sees no tests and no expected values.
Each takes and returns JSON values. A failure of the solution or of a test is a value.
"""

from __future__ import annotations

import builtins
import copy
import io
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from azr.executor.comparison import close, compare
from azr.executor.wire import digest, is_large, pack, unpack

Json = Any
_EXCEPTIONS = {name: kind for name, kind in vars(builtins).items()
               if isinstance(kind, type) and issubclass(kind, BaseException)}  # fmt: skip


def answer(job: dict[str, Json]) -> dict[str, Json]:
    """Run job["source"], then job["setup"], then every call.

    A call is {"args": [...]} for job["entry"] (a method of class job["class"] if that is given) or {"expr": "..."}.
    Returns {"answers": [{"v": value} | {"e": exception}]}, or {"failed": kind, "reason": ...}.
    With job["stop"], nothing is called after the first exception; with job["digest"], a large value is {"h": digest}; a
    call that takes more than job["call_seconds"] of CPU time ends the process (SIGPROF), which counts as a timeout.
    """
    sys.stdin = io.StringIO()
    namespace = _namespace()
    try:
        code = compile(job["source"], "<solution>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        return {"failed": "syntax_error", "reason": exception_name(error)}
    try:
        exec(code, namespace)
        if job.get("setup"):
            exec(compile(job["setup"], "<setup>", "exec", dont_inherit=True), namespace)
        function = _entry(namespace, job)
    except LookupError:
        return {"failed": "no_function", "reason": job["entry"]}
    except BaseException as error:
        return {"failed": "exception", "reason": exception_name(error)}
    answers: list[Json] = []
    for call in job["calls"]:
        signal.setitimer(signal.ITIMER_PROF, job.get("call_seconds", 0))
        try:
            if "expr" in call:
                value = eval(compile(call["expr"], "<call>", "eval", dont_inherit=True), namespace)
            else:
                value = function(*unpack(call["args"]))
            packed = pack(value)
            answers.append({"h": digest(packed)} if job.get("digest") and is_large(packed) else {"v": packed})
        except BaseException as error:
            answers.append({"e": exception_name(error)})
            if job.get("stop"):
                break
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {"answers": answers}


def _namespace() -> dict[str, Any]:
    """A fresh `__main__`, so that `if __name__ == "__main__"` and lookups of the own module work."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    vars(module)["__builtins__"] = builtins
    return vars(module)


class _NoEntry(LookupError):
    pass


def _entry(namespace: dict[str, Any], job: dict[str, Json]) -> Callable[..., Any]:
    """What `args` calls go to. Raises _NoEntry."""
    if job.get("entry") is None:
        return lambda *args: None
    if job.get("class") and job["class"] in namespace:
        method = getattr(namespace[job["class"]](), job["entry"], None)
        if callable(method):
            return method
    function = namespace.get(job["entry"])
    if not callable(function):
        raise _NoEntry
    return function


def exception_name(error: BaseException) -> str:
    """The nearest builtin exception."""
    for kind in type.mro(type(error)):
        if kind.__name__ in _EXCEPTIONS and _EXCEPTIONS[kind.__name__] is kind:
            return kind.__name__
    return "BaseException"


def record(job: dict[str, Json]) -> dict[str, Json]:
    """Run the tests on the reference solution job["reference"]: {"calls": [...], "answers": [...]} in their order."""
    reference = _namespace()
    exec(compile(job["reference"], "<reference>", "exec", dont_inherit=True), reference)
    function = _entry(reference, job)
    calls: list[Json] = []
    answers: list[Json] = []

    def candidate(*args: Any) -> Any:
        calls.append({"args": pack(list(args))})
        state = random.getstate()
        value = function(*copy.deepcopy(args))
        random.setstate(state)  # the tests draw the same numbers whatever the solution draws
        answers.append({"v": pack(value)})
        return unpack(answers[-1]["v"])

    _run_tests(job, candidate)
    return {"calls": calls, "answers": answers}


def check(job: dict[str, Json]) -> dict[str, Json]:
    """Run the tests job["tests"] on recorded answers: {"passed": True} or {"passed": False, "kind", "reason"}.

    With job["calls"] the tests call the candidate, which looks its answer up by its arguments; without, job["tests"] is
    a list of statements that read `__answers__[i]`.
    """
    replay = _Replay(job)
    try:
        if "calls" in job:
            _run_tests(job, replay.candidate)
        else:
            namespace = _namespace()
            namespace["__answers__"] = replay
            exec(compile(job["prelude"], "<prelude>", "exec", dont_inherit=True), namespace)
            for test in job["tests"]:
                exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
    except BaseException as error:
        if error is replay.raised:
            return {"passed": False, "kind": "exception", "reason": exception_name(error)}
        return {"passed": False, "kind": "wrong", "reason": exception_name(error)}
    return {"passed": True}


def _run_tests(job: dict[str, Json], candidate: Callable[..., Any]) -> None:
    """The prelude (a prompt's helper functions), the tests, and `check(candidate)` if they define it."""
    random.seed(0)
    sys.modules["numpy"] = _numpy()
    namespace = _namespace()
    exec(compile(job["prelude"], "<prelude>", "exec", dont_inherit=True), namespace)
    namespace[job["entry"]] = candidate
    exec(compile(job["tests"], "<tests>", "exec", dont_inherit=True), namespace)
    if callable(namespace.get("check")) and job["entry"] != "check":
        namespace["check"](candidate)


class _Replay:
    """A solution's answers, given out again in the order of its calls, or by their arguments."""

    def __init__(self, job: dict[str, Json]) -> None:
        self.answers = job["answers"]
        self.keys = [json.dumps(call["args"]) for call in job.get("calls", ())]
        self.raised: BaseException | None = None
        self.position = 0

    def candidate(self, *args: Any) -> Any:
        key = json.dumps(pack(list(args)))
        position = self.position
        if position >= len(self.keys) or self.keys[position] != key:
            position = self.keys.index(key)  # ValueError: a call that the reference run did not make
        self.position = position + 1
        return self[position]

    def __getitem__(self, position: int) -> Any:
        found = self.answers[position]
        if "e" in found:
            self.raised = _EXCEPTIONS[found["e"]]()
            raise self.raised
        return unpack(found["v"])


def _numpy() -> ModuleType:
    """The few names of numpy that published tests use for comparing floats."""
    numpy = ModuleType("numpy")

    def assert_allclose(actual: Any, desired: Any, rtol: float = 1e-07, atol: float = 0.0) -> None:
        assert close(actual, desired, atol, rtol)

    testing = ModuleType("numpy.testing")
    vars(testing)["assert_allclose"] = assert_allclose
    vars(numpy).update(
        testing=testing,
        allclose=lambda a, b, rtol=1e-05, atol=1e-08: close(a, b, atol, rtol),
        ndarray=type("ndarray", (), {}),
        float32=type("float32", (float,), {}),
        float64=type("float64", (float,), {}),
    )
    return numpy


def run_stdin(job: dict[str, Json]) -> dict[str, Json]:
    """Run job["source"] as a program on the text job["stdin"]: {"stdout": text, "error": exception or None}."""
    try:
        code = compile(job["source"], "<solution>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        return {"failed": "syntax_error", "reason": exception_name(error)}
    streams = _Streams(job["stdin"])
    streams.install()
    failure = None
    try:
        exec(code, _namespace())
    except SystemExit:
        pass  # a program may end itself; its output counts
    except BaseException as error:
        failure = exception_name(error)
    return {"stdout": streams.output(), "error": failure}


class _File(io.BytesIO):
    def __init__(self, number: int, content: bytes = b"") -> None:
        super().__init__(content)
        self.number = number

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        """Stay readable: what was printed counts even after `sys.stdout.close()`."""


class _Streams:
    """Standard input and output in memory, also for programs that use descriptors 0 and 1. Threads run at once."""

    def __init__(self, text: str) -> None:
        self.content = text.encode("utf-8", "surrogatepass")
        self.source = _File(0, self.content)
        self.sink = _File(1)
        self.stdin = io.TextIOWrapper(self.source, "utf-8", "surrogatepass")
        self.stdout = io.TextIOWrapper(self.sink, "utf-8", "surrogatepass", newline="\n", write_through=True)

    def install(self) -> None:
        sys.stdin, sys.stdout = self.stdin, self.stdout
        sys.__stdin__, sys.__stdout__ = self.stdin, self.stdout  # type: ignore[misc]
        vars(builtins)["open"] = vars(io)["open"] = self.open
        vars(builtins).update(exit=sys.exit, quit=sys.exit)  # of the module site, which the sandbox goes without
        vars(os).update(read=self.read, write=self.write, fstat=self.fstat)
        threading.Thread.start = threading.Thread.run  # type: ignore[method-assign]
        threading.Thread.join = lambda self, timeout=None: None  # type: ignore[method-assign]

    def open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if file in (0, "/dev/stdin"):
            return self.source if "b" in mode else self.stdin
        if file in (1, "/dev/stdout"):
            return self.sink if "b" in mode else self.stdout
        raise FileNotFoundError(2, "No such file or directory", file)

    def read(self, descriptor: int, size: int) -> bytes:
        return self.source.read(size)

    def write(self, descriptor: int, data: bytes) -> int:
        return self.sink.write(data) if descriptor == 1 else len(data)

    def fstat(self, descriptor: int) -> Any:
        return type("Stat", (), {"st_size": len(self.content), "st_mode": 0o100644})()

    def output(self) -> str:
        return self.sink.getvalue().decode("utf-8", "replace")


MODES: dict[str, Callable[[dict[str, Json]], dict[str, Json]]] = {
    "answer": answer,
    "record": record,
    "check": check,
    "compare": compare,
    "run_stdin": run_stdin,
}

"""One program in one forked process: read the job, confine itself, run, send one frame for each input, end.

Whatever the program does to this process (patch this module, forge a frame, overwrite a builtin) harms its own result
only: the judge holds the gold, compares bytes, and takes how the process ended from the kernel.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import socket
import sys
from types import ModuleType
from typing import Any, NoReturn, Protocol

from azr.executor import protocol
from azr.executor.values import NotAValue, TooLarge, decode, encode

_BUILTIN_EXCEPTIONS = {kind: kind.__name__ for kind in vars(builtins).values() if isinstance(kind, type) and
                       issubclass(kind, BaseException)}  # fmt: skip

# Audit events that no honest computation raises. The kernel refuses these too; here they get their name.
_FORBIDDEN_EVENTS = frozenset([
    "open", "sys.settrace", "sys.setprofile", "sys.addaudithook", "code.__new__", "gc.get_objects",
    "gc.get_referrers", "gc.get_referents", "function.__new__", "marshal.loads", "marshal.load",
    "pickle.find_class", "cpython.run_command", "setopencodehook", "syslog.openlog",
])  # fmt: skip
_FORBIDDEN_FAMILIES = (
    "os.", "socket.", "subprocess.", "ctypes.", "shutil.", "signal.", "fcntl.", "mmap.", "resource.", "pty.", "urllib.",
    "ftplib.", "http.", "sqlite3.", "tempfile.", "glob.", "pathlib.", "webbrowser.", "faulthandler.",
)  # fmt: skip
_FRAME_ATTRIBUTES = frozenset(["tb_frame", "gi_frame", "cr_frame", "ag_frame", "f_back"])


_WARM_UPS = 40  # more than the specialising interpreter takes to settle
_NO_LIMIT = 1e7  # CPU seconds of the zygote itself
_HARMLESS = (
    b"def f(a):\n    return a + 1\n",
    b"def f(a):\n    r = {}\n    for x in str(a):\n        r[x] = [len(x), x.upper()]\n    return r, sorted(r), 1.5\n",
)


class Sandbox(Protocol):
    def limit_child(self, cpu_seconds: float) -> None: ...

    def confine_child(self) -> None: ...


class _Discard(io.TextIOBase):
    """Standard output and error of a program: accepts everything, keeps nothing."""

    def write(self, text: str, /) -> int:
        return len(text)

    def writable(self) -> bool:
        return True


class _Job:
    """The job as read from its socket, which cannot be read any more once the sandbox is up."""

    def __init__(self, channel: int) -> None:
        data = _receive(channel, b"", protocol.HEADER.size)
        self.token, flags, size, count, self.seconds_per_input = protocol.HEADER.unpack_from(data)
        self.stop_at_failure = bool(flags & protocol.STOP_AT_FAILURE)
        start = protocol.HEADER.size
        data = _receive(channel, data, start + size)
        self.program = data[start : start + size]
        self.inputs: list[bytes] = []
        start += size
        for _ in range(count):
            data = _receive(channel, data, start + protocol.LENGTH.size)
            (length,) = protocol.LENGTH.unpack_from(data, start)
            start += protocol.LENGTH.size
            data = _receive(channel, data, start + length)
            self.inputs.append(data[start : start + length])
            start += length


def _receive(channel: int, data: bytes, size: int) -> bytes:
    """`data`, and what arrives until there are `size` bytes at least."""
    while len(data) < size:
        more = os.read(channel, 16 * 1024)
        if not more:
            raise EOFError
        data += more
    return data


class Runner:
    """Made once in the zygote; a forked child calls `run`. Whatever can be prepared before the fork is."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.token: list[bytes] = []
        self.send = _sender(self.token)
        self.armed: list[bool] = []  # whether forbidden events end the process
        self.streams = (io.StringIO(), _Discard(), _Discard())

    def prepare(self) -> None:
        """After every import: the audit hook, and the streams that programs see.

        Then a few harmless jobs are run here, so that the interpreter's caches fill once, in memory that all children
        share, instead of page by page in each of them.
        """
        sys.addaudithook(_auditor(self.armed, self.send))
        sys.stdin, sys.stdout, sys.stderr = self.streams
        vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
        for _ in range(_WARM_UPS):
            for program in _HARMLESS:
                self._rehearse(program)
        sys.modules.pop("program", None)

    def _rehearse(self, program: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            job = protocol.HEADER.pack(bytes(8), 0, len(program), 2, 0.0) + program
            for argument in (b"i\0\0\0\1\5", b"[\0\0\0\1s\0\0\0\1a"):
                data = b"(\0\0\0\1" + argument
                job += protocol.LENGTH.pack(len(data)) + data
            ours.sendall(job)
            self.sandbox.limit_child(_NO_LIMIT)
            _run(_Job(theirs.fileno()), lambda tag, payload=b"": protocol.FRAME.pack(bytes(8), tag, len(payload)))

    def run(self, channel: int, cpu_seconds: float) -> NoReturn:
        """The whole life of a program's process. Called right after the fork; never returns."""
        leave = os._exit
        code = protocol.EXIT_NO_SANDBOX
        try:
            job = _Job(channel)
            os.dup2(channel, protocol.JOB_DESCRIPTOR)
            os.closerange(0, protocol.JOB_DESCRIPTOR)
            os.closerange(protocol.JOB_DESCRIPTOR + 1, 1024)
            del sys.modules["resource"]
            self.sandbox.limit_child(cpu_seconds)
            self.sandbox.confine_child()
            self.token.append(job.token)
            self.armed.append(True)
            code = protocol.EXIT_CRASHED
            _run(job, self.send)
            code = protocol.EXIT_DONE
        except MemoryError:
            code = protocol.EXIT_OUT_OF_MEMORY
        finally:
            leave(code)


def _sender(token: list[bytes]) -> Any:
    write, pack, descriptor = os.write, protocol.FRAME.pack, protocol.JOB_DESCRIPTOR

    def send(tag: bytes, payload: bytes = b"") -> None:
        data = pack(token[0], tag, len(payload)) + payload
        while data:
            data = data[write(descriptor, data) :]

    return send


def _auditor(armed: list[bool], send: Any) -> Any:
    leave, forbidden, families, frames = os._exit, _FORBIDDEN_EVENTS, _FORBIDDEN_FAMILIES, _FRAME_ATTRIBUTES

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not armed:
            return
        if event == "open" and type(arguments[0]) is str and arguments[0][:1] == "<":
            return  # a syntax error looks for the text of "<program>"; the kernel refuses
        if event in forbidden or event.startswith(families):
            send(protocol.FORBIDDEN, event.encode())
            leave(protocol.EXIT_DONE)
        if event == "object.__getattr__" and arguments[1] in frames:
            send(protocol.FORBIDDEN, b"frame access")
            leave(protocol.EXIT_DONE)

    return audit


def _run(job: _Job, send: Any) -> None:
    try:
        source = job.program.decode("utf-8", "surrogatepass")
        code = compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        return send(protocol.SYNTAX_ERROR, _exception_name(error))
    module = ModuleType("program")
    sys.modules["program"] = module
    try:
        exec(code, module.__dict__)
        function = module.__dict__.get("f")
    except BaseException as error:
        return _send_failure(error, send)
    if not callable(function):
        return send(protocol.NO_FUNCTION)
    _run_inputs(job, function, send)


def _run_inputs(job: _Job, function: Any, send: Any) -> None:
    set_timer, timer, seconds = signal.setitimer, signal.ITIMER_PROF, job.seconds_per_input
    for data in job.inputs:
        if seconds:
            set_timer(timer, seconds)  # SIGPROF ends the process
        try:
            payload = encode(function(*decode(data)))
        except BaseException as error:
            _send_failure(error, send)
            if job.stop_at_failure:
                return None
        else:
            send(protocol.VALUE, payload)


def _send_failure(error: BaseException, send: Any) -> None:
    kind = type(error)
    if kind is NotAValue:
        send(protocol.NOT_A_VALUE, str(error).encode())
    elif kind is TooLarge:
        send(protocol.TOO_LARGE, str(error).encode())
    elif kind is MemoryError:
        error.__traceback__ = None  # lets go of what the program's frames hold
        send(protocol.OUT_OF_MEMORY)
    else:
        send(protocol.EXCEPTION, _exception_name(error))


def _exception_name(error: BaseException) -> bytes:
    """The nearest builtin class: a name that the program cannot forge."""
    for kind in type.mro(type(error)):
        if kind in _BUILTIN_EXCEPTIONS:
            return _BUILTIN_EXCEPTIONS[kind].encode()
    return b"BaseException"

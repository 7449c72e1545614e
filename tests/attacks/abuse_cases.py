"""Programs that attack the sandbox, and how each must end. A program that got what it wanted returns "BREACH"."""

# ruff: noqa: E501  (one attack a line)
from __future__ import annotations

from dataclasses import dataclass

CANARY = "AZR_CANARY"  # an environment variable, a file and a port of the host carry this name


@dataclass(frozen=True)
class Case:
    """`ends`: the statuses that are no breach. `program` may use {file} and {port}, the host's canaries."""

    name: str
    program: str
    ends: tuple[str, ...]
    input: str = "3"


def _case(name: str, ends: str, program: str, input: str = "3") -> Case:
    return Case(name, program, tuple(ends.split()), input)


def _body(name: str, ends: str, body: str, imports: str = "") -> Case:
    """The attack inside the call."""
    lines = "\n".join("    " + line for line in body.strip("\n").split("\n"))
    return Case(name, (f"import {imports}\n" if imports else "") + f"def f(a):\n{lines}\n", tuple(ends.split()))


LOOPS = [
    _body("infinite loop", "timeout", "while True: pass"),
    _case("infinite loop at import", "timeout", "while True: pass\ndef f(a): return 1"),
    _body(
        "swallows every exception",
        "timeout",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ),
    _body("huge power", "timeout out_of_memory", "return 10 ** 10 ** 9 > 3"),
    _body("catastrophic regex", "timeout", "return re.match(r'(a+)+$', 'a' * 60 + 'b') is None", "re"),
    _body("long sum in C", "timeout", "return sum(range(10 ** 12))"),
    _body("sleeps", "ok", "time.sleep(10 ** 6)\nreturn 1", "time"),
    _body("waits for an event", "ok timeout", "return threading.Event().wait(10 ** 6)", "threading"),
    _body("deadlock", "ok timeout crashed", "l = threading.Lock()\nl.acquire()\nreturn l.acquire()", "threading"),
    _body("ignores signals", "exception forbidden", "signal.signal(15, signal.SIG_IGN)\nwhile True: pass", "signal"),
    _body("ignores signals by a module found loaded", "exception", "s = next(m for m in sys.modules.values() if hasattr(m, 'SIG_IGN'))\nfor n in range(1, 65): s.signal(n, s.SIG_IGN)\nwhile True: pass", "sys"),
    _body("ignores signals by the C library", "timeout exception forbidden crashed", "g = [k for k in object.__subclasses__() if k.__name__ == 'LinuxSandbox'][0].limit_child.__globals__\nfor n in range(1, 65): g['_libc'].signal(n, 1)\nwhile True: pass"),
    _body("loop in a finalizer", "timeout", "class D:\n    def __del__(self):\n        while True: pass\nD()\nreturn 1"),
    _case("finalizer at the end", "ok", "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndef f(a): return 1"),
]  # fmt: skip

# CPU time may run out before memory does where the machine is slow to hand out pages: both are the limit's work.
MEMORY = [
    _body("one shot", "out_of_memory", "return len([0] * 10 ** 10)"),
    _body("gradual", "out_of_memory timeout", "l = []\nwhile True: l.append('x' * 10 ** 6 + str(len(l)))"),
    _body("doubling", "out_of_memory timeout", "s = 'ab'\nwhile True: s += s"),
    _body("swallows the memory error", "out_of_memory timeout exception", "l = []\nwhile True:\n    try: l.append(bytearray(10 ** 6))\n    except MemoryError: pass"),
    _body("many small objects", "out_of_memory timeout", "l = []\nwhile True: l.append([])"),
]  # fmt: skip

PROCESSES = [
    _body("fork bomb", "forbidden", "while True: os.fork()", "os"),
    _body("thread bomb", "exception", "while True: threading.Thread(target=lambda: None).start()", "threading"),
    _body("a thread that outlives", "exception", "import _thread\n_thread.start_new_thread(lambda: time.sleep(99), ())\nreturn 'BREACH'", "time"),
    _body("subprocess", "exception", "import subprocess\nreturn subprocess.run('id') and 'BREACH'"),
    _body("os.system", "forbidden", "return os.system('touch {file}.new') == 0 and 'BREACH'", "os"),
    _body("execve", "forbidden", "os.execv('/bin/sh', ['sh', '-c', 'touch {file}.new'])", "os"),
    _body("posix_spawn", "forbidden", "os.posix_spawn('/bin/sh', ['sh'], {{}})\nreturn 'BREACH'", "os"),
    _body("sys.exit in the call", "exception", "sys.exit(0)", "sys"),
    _case("sys.exit at import", "exception", "import sys\nsys.exit(0)\ndef f(a): return 1"),
    _body("os._exit", "crashed", "os._exit(0)", "os"),
    _body("os._exit with a code of the harness", "out_of_memory crashed", "os._exit(98)", "os"),
    _body("abort", "crashed forbidden", "os.abort()", "os"),
    _body("kills its parent", "forbidden", "os.kill(os.getppid(), 9)\nreturn 'BREACH'", "os"),
    _body("kills everything", "forbidden", "os.kill(-1, 9)\nreturn 'BREACH'", "os"),
    _body("kills its group", "forbidden", "os.killpg(0, 9)\nreturn 'BREACH'", "os"),
    _body("closes every descriptor", "ok exception forbidden crashed", "os.closerange(0, 1000)\nreturn 1", "os"),
    _body("duplicates its descriptor", "exception forbidden", "return os.dup(3) and 'BREACH'", "os"),
    _body("writes to other descriptors", "exception", "[os.write(i, b'x') for i in range(64) if i != 3]\nreturn 'BREACH'", "os"),
    _body("changes its priority", "exception forbidden", "return os.nice(-5) and 'BREACH'", "os"),
    _body("changes its user", "exception forbidden", "os.setuid(0)\nreturn 'BREACH'", "os"),
]  # fmt: skip

FILES = [
    _body("writes", "forbidden", "open('{file}', 'w').write('x')\nreturn 'BREACH'"),
    _body("writes through os", "forbidden", "os.write(os.open('{file}', os.O_WRONLY), b'x')\nreturn 'BREACH'", "os"),
    _body("unlink", "forbidden", "os.unlink('{file}')\nreturn 'BREACH'", "os"),
    _body("chmod", "forbidden", "os.chmod('{file}', 0)\nreturn 'BREACH'", "os"),
    _body("rename", "forbidden", "os.rename('{file}', '{file}.new')\nreturn 'BREACH'", "os"),
    _body("symlink", "forbidden", "os.symlink('/etc/passwd', '{file}.new')\nreturn 'BREACH'", "os"),
    _body("mkdir", "forbidden", "os.mkdir('{file}.new')\nreturn 'BREACH'", "os"),
    _body("reads", "forbidden", "return open('{file}').read() and 'BREACH'"),
    _body("stats", "exception", "return os.stat('{file}') and 'BREACH'", "os"),
    _body("exists", "ok", "return os.path.exists('{file}') and 'BREACH'", "os"),
    _body("lists", "forbidden", "return os.listdir('/') and 'BREACH'", "os"),
    _body("reads /proc/self", "forbidden", "return open('/proc/self/maps').read() and 'BREACH'"),
    _body("reads its parent's environment", "forbidden", "return open(f'/proc/{{os.getppid()}}/environ').read() and 'BREACH'", "os"),
    _body("FileIO through subclasses", "forbidden exception", "import io\nreturn io.FileIO('{file}').read() and 'BREACH'"),
    _body("secrets in the environment", "ok", "return os.environ.get('AZR_CANARY') and 'BREACH' or len(os.environ)", "os"),
    _body("the environment in C", "ok exception", "return ('AZR_CANARY' in str(os.environb) or os.getenv('HOME')) and 'BREACH'", "os"),
]  # fmt: skip

NETWORK = [
    _body("TCP", "exception", "import socket\nsocket.create_connection(('127.0.0.1', {port}))\nreturn 'BREACH'"),
    _body("UDP", "exception", "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', {port}))\nreturn 'BREACH'"),
    _body("unix socket", "exception", "import socket\nsocket.socket(1).connect('\\0x')\nreturn 'BREACH'"),
    _body("the socket module's C half", "exception", "import _socket\n_socket.socket()\nreturn 'BREACH'"),
    _body("socket through subclasses", "ok exception forbidden", "s = [c for c in object.__subclasses__() if c.__name__ == 'socket' and c.__module__ == '_socket']\nreturn bool(s and s[0]()) and 'BREACH'"),
    _body("urllib", "exception forbidden", "import urllib.request\nreturn 'BREACH'"),
]  # fmt: skip

INSIDES = [
    _body("ctypes", "exception", "import ctypes\nreturn 'BREACH'"),
    _body("ctypes through subclasses", "forbidden ok exception", "c = [k for k in object.__subclasses__() if k.__name__ == 'CDLL']\nif c: c[0](None).system(b'touch {file}.new')\nreturn 1"),
    _body("a loaded library through subclasses", "forbidden exception ok crashed", "import types\nfor k in type.mro(type(lambda: 0))[-1].__subclasses__():\n    for v in list(vars(k).values()):\n        if type(v).__name__ == '_FuncPtr': v(b'touch {file}.new')\nreturn 1"),
    _body("gc", "exception", "import gc\nreturn len(gc.get_objects()) and 'BREACH'"),
    _body("a builtin module through a loader", "ok exception forbidden", "g = math.__loader__.load_module('gc')\nreturn g.get_objects() and 'BREACH'", "math"),
    _body("posix through a loader", "forbidden exception", "math.__loader__.load_module('posix').system('touch {file}.new')", "math"),
    _body("frames by a traceback", "forbidden", "try: 1 / 0\nexcept Exception as e: return e.__traceback__.tb_frame.f_back and 'BREACH'"),
    _body("frames by a generator", "forbidden", "g = (i for i in [1])\nreturn g.gi_frame and 'BREACH'"),
    _body("the harness's classes patched", "ok crashed forbidden exception", "for k in object.__subclasses__():\n    if k.__module__.startswith('azr'):\n        for n in list(vars(k)):\n            try: setattr(k, n, lambda *a: b'i\\0\\0\\0\\1\\5')\n            except Exception: pass\nreturn a"),
    _body("sys.modules emptied", "ok exception crashed", "sys.modules.clear()\nreturn a", "sys"),
    _body("settrace", "forbidden", "sys.settrace(lambda *a: None)\nreturn 'BREACH'", "sys"),
    _body("setprofile", "forbidden", "sys.setprofile(lambda *a: None)\nreturn 'BREACH'", "sys"),
    _body("an audit hook of its own", "forbidden", "sys.addaudithook(lambda *a: None)\nreturn 'BREACH'", "sys"),
    _body("atexit", "exception", "import atexit\natexit.register(print)\nreturn 'BREACH'"),
    _body("pickle", "exception", "import pickle\nreturn 'BREACH'"),
    _body("pickle found loaded", "ok", "return 'BREACH' if any(hasattr(m, 'loads') for m in sys.modules.values() if 'pickle' in m.__name__) else 1", "sys"),
    _body("a pickle bomb as the value", "not_a_value", "class B:\n    def __reduce__(self): return (exec, (\"open('{file}', 'w')\",))\nreturn B()"),
    _body("marshal", "exception", "import marshal\nreturn 'BREACH'"),
    _body("corrupt bytecode", "forbidden", "g = lambda: 0\ng.__code__ = g.__code__.replace(co_code=b'\\xff\\xff' * 99)\ng()\nreturn 'BREACH'"),
    _body("a code object by hand", "forbidden exception", "type((lambda: 0).__code__)(0, 0, 0, 0, 0, 0, b'x', (), (), (), '', '', '', 0, b'', b'')\nreturn 'BREACH'"),
    _body("ctypes through a function's globals", "forbidden exception crashed", "c = time.sleep.__globals__.get('ctypes') or [k for k in object.__subclasses__() if k.__name__ == 'LinuxSandbox'][0].limit_child.__globals__['ctypes']\nreturn c.CDLL(None).getppid() and 'BREACH'", "time"),
    _body("the C library through the sandbox's own module", "forbidden exception crashed", "g = [k for k in object.__subclasses__() if k.__name__ == 'LinuxSandbox'][0].limit_child.__globals__\nreturn g['_libc'].kill(g['os'].getppid(), 9) == 0 and 'BREACH'"),
    _body("a raw system call through the sandbox's own module", "ok exception forbidden crashed", "g = [k for k in object.__subclasses__() if k.__name__ == 'LinuxSandbox'][0].limit_child.__globals__\nreturn any(g['_syscall'](n, b'/etc/passwd', 0, 0) >= 0 for n in (2, 41, 319, 323, 425)) and 'BREACH'"),
    _body("memory overwritten by memmove", "crashed exception forbidden out_of_memory", "g = [k for k in object.__subclasses__() if k.__name__ == 'LinuxSandbox'][0].limit_child.__globals__\ng['ctypes'].memmove(8, b'x' * 4096, 4096)\nreturn 'BREACH'"),
    _body("the job's token, and a forged frame with it", "ok crashed nondeterministic", "k = [k for k in object.__subclasses__() if k.__name__ == 'Runner'][0]\nm = k.run.__globals__\nm['_send_failure'] = m['encode'] = lambda *x: b'i\\0\\0\\0\\1\\5' * 2\nreturn 5"),
    _body("the audit hook disarmed", "exception forbidden", "k = [k for k in object.__subclasses__() if k.__name__ == 'Runner'][0]\nm = k.run.__globals__\nm['_FORBIDDEN_FAMILIES'] = ()\nm['_FORBIDDEN_EVENTS'] = frozenset()\nopen('{file}', 'w').write('x')\nreturn 'BREACH'"),
    _body("breakpoint", "ok exception", "breakpoint()\nreturn 1"),
    _body("reads standard input", "exception", "return input()"),
    _body("the harness's modules", "exception", "import azr\nreturn 'BREACH'"),
]  # fmt: skip

FORGERY = [
    _body("a forged result, then exit", "crashed", "os.write(3, b'V\\0\\0\\0\\6i\\0\\0\\0\\1\\5')\nos._exit(0)", "os"),
    _body("a forged result with a token", "crashed", "os.write(3, b'12345678V\\0\\0\\0\\6i\\0\\0\\0\\1\\5')\nos._exit(0)", "os"),
    _body("two frames", "crashed", "for n in range(64):\n    try: os.write(n, b'12345678V\\0\\0\\0\\6i\\0\\0\\0\\1\\5')\n    except OSError: pass\nreturn 5", "os"),
    _body("garbage before the result", "crashed", "os.write(3, b'\\xff' * 1000)\nreturn 5", "os"),
    _body("a marshal bomb", "crashed", "os.write(3, b'[\\xff\\xff\\xff\\x7f' * 99)\nreturn 5", "os"),
    _body("a flood", "crashed", "while True: os.write(3, b'x' * 10 ** 6)", "os"),
    _body("a forged exception name", "exception", "class MemoryError(Exception): pass\nraise MemoryError"),
    _body("a forged harness exception", "exception", "class NotAValue(Exception): pass\nraise NotAValue('x')"),
    _body("a lying exception class", "exception", "class E(Exception):\n    __class__ = MemoryError\n    __name__ = 'MemoryError'\nraise E"),
]  # fmt: skip

VALUES = [
    _body("equal to everything", "not_a_value", "class E:\n    def __eq__(self, o): return True\nreturn E()"),
    _body("a lying class", "not_a_value", "class E:\n    __class__ = int\n    def __repr__(self): return '5'\nreturn E()"),
    _body("an int subclass", "not_a_value", "class I(int): pass\nreturn I(5)"),
    _body("a str subclass", "not_a_value", "class S(str):\n    def encode(self, *a): return b'5'\nreturn S('x')"),
    _body("a list subclass inside", "not_a_value", "class L(list): pass\nreturn [1, L()]"),
    _body("a key that changes", "not_a_value", "class K(str):\n    def __hash__(self): return 1\nreturn {{K('a'): 1}}"),
    _body("a generator", "not_a_value", "return (i for i in range(3))"),
    _body("a function", "not_a_value", "return f"),
    _body("a class", "not_a_value", "return int"),
    _case("a coroutine", "not_a_value", "async def f(a): return 1"),
    _body("NaN", "not_a_value", "return float('nan')"),
    _body("NaN inside", "not_a_value", "return [{{'a': (1.0, float('inf') - float('inf'))}}]"),
    _body("NaN as a key", "not_a_value", "return {{float('nan'): 1}}"),
    _body("a surrogate", "ok", "return '\\ud800'"),
    _body("a cycle", "not_a_value", "x = [1]\nx.append(x)\nreturn x"),
    _body("a cycle through a dict", "not_a_value", "d = {{}}\nd['d'] = (d,)\nreturn d"),
    _body("a shared-reference bomb", "too_large", "x = [1]\nfor _ in range(40): x = [x, x]\nreturn x"),
    _body("a huge string", "too_large", "return 'x' * 10 ** 7"),
    _body("a huge list", "too_large", "return list(range(10 ** 5))"),
    _body("a huge integer", "too_large", "return 10 ** 5000"),
    _body("a huge integer as text", "exception", "return str(10 ** 5000)"),
    _body("a deep list", "too_large", "x = []\nfor _ in range(10 ** 5): x = [x]\nreturn x"),
    _body("a huge print", "ok", "for _ in range(30): print('x' * 10 ** 6)\nreturn 1"),
    _body("a bytearray", "not_a_value", "return bytearray(b'x')"),
]  # fmt: skip

RECURSION = [
    _body("in Python", "exception", "return f(a)"),
    _body("without a limit", "out_of_memory crashed timeout exception", "sys.setrecursionlimit(2 ** 30)\nreturn f(a)", "sys"),
    _body("in C", "exception crashed", "x = []\nfor _ in range(10 ** 5): x = [x]\nreturn repr(x)"),
    _case("in the parser", "syntax_error crashed", "x = " + "(" * 50_000 + "\ndef f(a): return 1"),
    _case("in the parser, unary", "syntax_error crashed", "x = " + "-" * 100_000 + "1\ndef f(a): return 1"),
    _case("in the compiler", "syntax_error crashed", "x = 1" + " + 1" * 60_000 + "\ndef f(a): return x"),
    _case("in the compiler, attributes", "syntax_error crashed", "def f(a): return a" + ".a" * 60_000),
    _body("in eval", "exception crashed", "return eval('[' * 10 ** 5)"),
    _case("a NUL in the program", "syntax_error", "def f(a): return 1\0"),
    _case("a surrogate in the program", "syntax_error", "def f(a): return '\ud800'"),
    _case("a program that is too long", "too_large", "#" * 300_000 + "\ndef f(a): return 1"),
]  # fmt: skip

STATE = [
    _body("an overridden builtin", "ok exception crashed", "builtins.len = lambda x: 7\nbuiltins.isinstance = lambda *a: True\nreturn len('abc')", "builtins"),
    _body("builtins deleted", "ok exception crashed", "vars(builtins).clear()\nreturn 1", "builtins"),
    _body("the standard library poisoned", "ok", "math.pi = 3\nmath.sqrt = lambda x: 7\nreturn math.sqrt(4)", "math"),
    _body("json poisoned", "ok", "json.dumps = lambda *a: '{{}}'\nreturn json.dumps(3)", "json"),
    _body("recursion limit lowered", "ok exception", "sys.setrecursionlimit(60)\nreturn 1", "sys"),
    _case("a call counter", "nondeterministic", "n = 0\ndef f(a):\n    global n\n    n += 1\n    return n"),
    _case("a mutable default", "nondeterministic", "def f(a, seen=[]):\n    seen.append(a)\n    return len(seen)"),
    _case("the shared functions of the zygote patched", "ok nondeterministic crashed exception", "import random, time\ntime.time = lambda: 7\nrandom.Random.seed = None\nid.__code__ = (lambda value, /: 7).__code__\ndef f(a): return id(a)"),
    _case("a counter in a module", "nondeterministic", "import math\ndef f(a):\n    math.n = getattr(math, 'n', 0) + 1\n    return math.n"),
]  # fmt: skip

NONDETERMINISM = [
    _body("set order", "nondeterministic", "return list(set('abcdefghij'))"),
    _body("set order of few", "nondeterministic", "return [list({{x + 'x', x + 'y', x + 'z'}}) for x in 'abcde']"),
    _body("hash", "nondeterministic", "return hash('abc')"),
    _body("id", "nondeterministic", "return id(a)"),
    _body("id's low bits", "nondeterministic", "o = [[x] * n for n, x in enumerate('abcdefgh')]\nreturn [id(x) // 16 % 64 for x in o]"),
    _body("order of addresses", "nondeterministic", "o = [object() for _ in range(9)]\nreturn sorted(range(9), key=lambda i: id(o[i]))"),
    _body("default repr", "nondeterministic", "return repr(object())"),
    _body("default hash order", "nondeterministic", "o = [object() for _ in range(20)]\nreturn [o.index(x) for x in set(o)]"),
    _body("time", "nondeterministic", "return time.time()", "time"),
    _body("perf_counter", "nondeterministic", "return time.perf_counter_ns()", "time"),
    _body("strftime", "nondeterministic", "return time.strftime('%Y %j')", "time"),
    _body("datetime.now", "nondeterministic", "return str(datetime.datetime.now())", "datetime"),
    _body("date.today", "nondeterministic", "return datetime.date.today().toordinal()", "datetime"),
    _body("date-triggered", "nondeterministic", "return 1 if datetime.date.today().year == 2025 else 2", "datetime"),
    _body("unseeded random", "nondeterministic", "return random.random()", "random"),
    _body("an unseeded generator", "nondeterministic", "return random.Random().randrange(10 ** 9)", "random"),
    _body("system random", "nondeterministic", "return random.SystemRandom().randrange(10 ** 9)", "random"),
    _body("urandom", "nondeterministic", "return os.urandom(8)", "os"),
    _body("secrets", "nondeterministic", "return secrets.token_hex()", "secrets"),
    _body("uuid4", "nondeterministic", "return str(uuid.uuid4())", "uuid"),
    _body("uuid1", "nondeterministic exception", "return str(uuid.uuid1())", "uuid"),
    _body("process id", "ok", "return 'BREACH' if os.getpid() > 0 or os.getppid() > 0 else 1", "os"),
    _body("hash-triggered", "nondeterministic", "return hash('a') % 1000 == 3 or hash('b') % 1000"),
    _body("seeded random is fine", "ok", "random.seed(5)\nreturn random.random()", "random"),
]  # fmt: skip

BORDERLINE = [
    _case("half the limit", "timeout", "def f(a):\n    for _ in range(10 ** 9): pass"),
    _case("no function", "no_function", "g = 1"),
    _case("f is no function", "no_function", "f = 1"),
    _case("wrong number of arguments", "exception", "def f(a, b): return 1"),
    _case("empty program", "no_function", ""),
]  # fmt: skip

GROUPS = {
    "loops": LOOPS, "memory": MEMORY, "processes": PROCESSES, "files": FILES, "network": NETWORK, "insides": INSIDES,
    "forgery": FORGERY, "values": VALUES, "recursion": RECURSION, "state": STATE, "nondeterminism": NONDETERMINISM,
    "borderline": BORDERLINE,
}  # fmt: skip
CASES = {f"{group}: {case.name}": case for group, cases in GROUPS.items() for case in cases}


def program_of(case: Case, file: str, port: int) -> str:
    """The case's program, aimed at the host's canaries."""
    if "{file}" in case.program or "{port}" in case.program or "{{" in case.program:
        return case.program.replace("{file}", file).replace("{port}", str(port)).replace("{{", "{").replace("}}", "}")
    return case.program

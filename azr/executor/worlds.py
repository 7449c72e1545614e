"""What a program can see of its surroundings, fixed per world: clock, random numbers, addresses, modules.

World A is where results are made. In the others everything that a program might pick up by chance is the opposite of
what it is in A, so that a program whose result depends on it is found out and none agrees by luck: the bits of unseeded
random numbers and of addresses are turned over, and the clock shows another part of the day, week, month, year and
leap cycle. World B has another hash seed (the interpreter takes it from its environment) and another address layout;
world C has A's hash seed and iterates sets backwards, for programs that may show a set's order or a hash. World E, for
evaluations, is A with harness.py loaded, which every program there begins with.
Loaded by the zygote, before it loads anything that might keep a real clock.
"""

from __future__ import annotations

import builtins
import importlib
import itertools
import os
import sys
import time
from types import ModuleType
from typing import Any

# Seconds: Friday 2025-01-10 12:00:00 UTC, Saturday 2028-10-21 03:41:41, Tuesday 2031-06-03 17:07:20.
CLOCKS = {"A": 1_736_510_400.25, "B": 1_855_712_501.813377, "C": 1_938_272_840.5}
# From Python 3.13 on lists take a set's elements without iterating it, so that C needs a seed of its own there.
HASH_SEEDS = {"A": 0, "B": 1_000_003, "C": 0 if sys.version_info < (3, 13) else 2_000_029, "E": 0}
LAYOUT_SEEDS = {"B": 0x9E3779B9, "C": 0x7F4A7C15}
_ALL_ONES = 0x12DD9BB3  # this word of a Mersenne twister's state becomes 32 ones in its output

ALLOWED_MODULES = [
    "abc", "array", "ast", "base64", "binascii", "bisect", "builtins", "calendar", "cmath", "codecs", "collections",
    "collections.abc", "colorsys", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "errno", "fractions", "functools", "graphlib", "hashlib", "heapq", "io", "itertools", "json",
    "keyword", "linecache", "locale", "math", "numbers", "operator", "os", "os.path", "pprint", "queue", "random",
    "re", "sched", "secrets", "statistics", "string", "struct", "sys", "textwrap", "threading", "time", "timeit",
    "traceback", "types", "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
    "__future__", "__main__",
]  # fmt: skip
_PRELOADED = [
    "_bisect", "_collections", "_collections_abc", "_datetime", "_decimal", "_functools", "_heapq", "_json",
    "_operator", "_random", "_sha1", "_sha2", "_sha256", "_sha512", "_md5", "_sha3", "_blake2", "_statistics",
    "_strptime", "_struct", "_weakref", "_weakrefset", "copyreg", "opcode", "dis", "inspect", "re._compiler",
    "re._parser", "re._constants", "re._casefix", "encodings", "encodings.aliases", "reprlib",
    "token", "tokenize", "json.decoder", "json.encoder", "json.scanner", "importlib",
    "importlib._bootstrap", "sre_compile", "sre_parse", "_threading_local", "_pylong",
    "_thread", "_io",
]  # fmt: skip
_ENCODINGS = [
    "ascii", "base64_codec", "charmap", "cp1252", "cp437", "hex_codec", "latin_1",
    "quopri_codec", "raw_unicode_escape", "rot_13", "unicode_escape", "utf_16", "utf_16_be", "utf_16_le", "utf_32",
    "utf_32_be", "utf_32_le", "utf_7", "utf_8", "utf_8_sig", "uu_codec", "zlib_codec",
]  # fmt: skip


def freeze_clock(world: str) -> None:
    """Replace every clock of `time` by one that stands still, except that sleeping moves it (and returns at once)."""
    moment = [CLOCKS[world]]
    real = {name: getattr(time, name) for name in ("localtime", "gmtime", "ctime", "asctime", "strftime")}

    def seconds() -> float:
        return moment[0]

    def nanoseconds() -> int:
        return int(moment[0] * 1_000_000_000)

    def sleep(duration: float, /) -> None:
        if duration < 0:
            raise ValueError("sleep length must be non-negative")
        moment[0] += duration

    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        if hasattr(time, name):
            setattr(time, name, seconds)
            setattr(time, name + "_ns", nanoseconds)
    vars(time).update(
        sleep=sleep,
        clock_gettime=lambda clock, /: moment[0],
        clock_gettime_ns=lambda clock, /: nanoseconds(),
        localtime=lambda when=None, /: real["localtime"](moment[0] if when is None else when),
        gmtime=lambda when=None, /: real["gmtime"](moment[0] if when is None else when),
        ctime=lambda when=None, /: real["ctime"](moment[0] if when is None else when),
        asctime=lambda when=None, /: real["asctime"](real["localtime"](moment[0]) if when is None else when),
        strftime=lambda form, when=None, /: real["strftime"](
            form, real["localtime"](moment[0]) if when is None else when
        ),
    )


def freeze_dates() -> None:
    """Make `datetime` ask the frozen clock."""
    import datetime

    from azr.executor.slots import replace_method

    def now(cls: Any, tz: Any = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    def utcnow(cls: Any) -> Any:
        return cls.utcfromtimestamp(time.time())

    def today(cls: Any) -> Any:
        return cls.fromtimestamp(time.time())

    for kind, methods in ((datetime.datetime, (now, utcnow, today)), (datetime.date, (today,))):
        for method in methods:
            replace_method(kind, method.__name__, classmethod(method))  # type: ignore[arg-type]


def seed_randomness(world: str) -> None:
    """Give `random`, `os.urandom`, `secrets` and `uuid` the same stream in every world, turned over but in world A."""
    import random
    import uuid

    seed, setstate, below = random.Random.seed, random.Random.setstate, random.Random._randbelow  # type: ignore[attr-defined]
    seeds = random.Random(0)

    def seed_anew(self: random.Random) -> None:
        seed(self, seeds.getrandbits(64))
        self.getrandbits(32)  # makes the next words of the state; index 0 is the first of them
        version, (*words, _), gauss = self.getstate()
        if world != "A":
            words = [word ^ _ALL_ONES for word in words]
        setstate(self, (version, (*words, 0), gauss))

    def seed_or_anew(self: Any, a: Any = None, version: int = 2) -> None:
        self.is_unseeded = a is None
        seed_anew(self) if a is None else seed(self, a, version)

    def randbelow(self: Any, n: int) -> int:
        """Where nobody asked for a certain sequence, one that differs in the other worlds for any n above 1."""
        if not self.is_unseeded:
            return int(below(self, n))
        bits = n.bit_length() + 64
        number = int(self.getrandbits(bits) * n >> bits)
        return number if world == "A" else (n - 1 - number + n // 2) % n

    stream = random.Random(0)
    seed_anew(stream)
    os.urandom = stream.randbytes
    random._urandom = stream.randbytes  # type: ignore[attr-defined]
    random.SystemRandom.random = lambda self: stream.random()  # type: ignore[method-assign]
    random.SystemRandom.getrandbits = lambda self, k: stream.getrandbits(k)  # type: ignore[method-assign]
    random.Random.is_unseeded = random.SystemRandom.is_unseeded = True  # type: ignore[attr-defined]
    random.Random._randbelow = randbelow  # type: ignore[attr-defined]
    random.Random.seed = seed_or_anew  # type: ignore[method-assign]
    random.seed = vars(random)["_inst"].seed
    random.seed()
    uuid._generate_time_safe = uuid._UuidCreate = None  # type: ignore[attr-defined]
    uuid._node = stream.getrandbits(48)  # type: ignore[attr-defined]


def scatter_addresses(world: str) -> list[object]:
    """Holes of all small sizes in random order, so that addresses come in another order than in world A.

    Address randomisation alone would keep their order and their low bits. The caller keeps the result.
    """
    if world == "A":
        return []
    import random

    shuffler = random.Random(LAYOUT_SEEDS[world])
    kept: list[object] = []
    for size in range(0, 480, 16):
        blocks: list[object] = [bytes(size + shuffler.randrange(1, 16)) for _ in range(96)]
        blocks += [[None] for _ in range(8)]
        shuffler.shuffle(blocks)
        kept += blocks[:48]
    blocks = [type("Hole", (), {})() for _ in range(64)] + [object() for _ in range(256)]
    shuffler.shuffle(blocks)
    return kept + blocks[:160]


def preload() -> None:
    """Import everything that a program may import; later no file can be opened."""
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # OpenSSL makes every fork slower; hashlib has its own
    sys.modules["_uuid"] = None  # type: ignore[assignment]  # `uuid` works without, and every mapping costs time
    os.register_at_fork = lambda **callbacks: None  # `random` would seed itself anew in every child
    for name in itertools.chain(ALLOWED_MODULES, _PRELOADED, (f"encodings.{name}" for name in _ENCODINGS)):
        try:
            importlib.import_module(name)
        except ImportError:  # not in this version of Python, or not built
            continue
    warm_up()


def warm_up() -> None:
    """Run what imports or fills a cache at its first use."""
    import datetime
    import decimal
    import random

    datetime.datetime.strptime("2000-01-01", "%Y-%m-%d")
    decimal.getcontext()
    random.random()
    "é".encode("utf-16").decode("utf-16")
    compile("def f(a: int) -> int:\n    return [x for x in (a, 2)][0]", "<warm up>", "exec")


def close_imports() -> None:
    """Leave only the allowed modules to `import`; any other raises ModuleNotFoundError.

    `resource` stays for the zygote, whose `os.wait4` imports it at each call; the child takes it away.
    """
    keep = {"resource", *ALLOWED_MODULES, *_PRELOADED, *(f"encodings.{name}" for name in _ENCODINGS)}
    parents = {name.split(".")[0] for name in keep}
    for name in list(sys.modules):
        if name not in keep and name not in parents:
            del sys.modules[name]
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [_NothingElse()]
    sys.argv = [""]
    os.environ.clear()  # it would show the hash seed
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    vars(main)["__builtins__"] = builtins


class _NothingElse:
    """A finder that finds nothing (an empty list of finders would warn)."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        return None

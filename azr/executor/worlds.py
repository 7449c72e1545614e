"""What a program can see of its surroundings, fixed per world: clock, random numbers, address layout, modules.

World A is where results are made; the other worlds differ in all of this (and in the hash seed, which the interpreter
takes from its environment), so that a program whose result depends on it is found out. Loaded by the zygote, before it
loads anything that might keep a real clock.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import itertools
import os
import sys
import time
from types import ModuleType
from typing import Any

CLOCKS = {"A": 1_736_510_400.25, "B": 1_771_396_871.75, "C": 1_801_822_212.5}  # seconds; 403 and 352 days apart
HASH_SEEDS = {"A": 0, "B": 1_000_003, "C": 2_000_029}
RANDOM_SEEDS = {"A": 0, "B": 0x9E3779B9, "C": 0x7F4A7C15}

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
    """Make `datetime` ask the frozen clock. Its classes are immutable from Python, so their dictionaries are edited."""
    import datetime

    def now(cls: Any, tz: Any = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    def utcnow(cls: Any) -> Any:
        return cls.utcfromtimestamp(time.time())

    def today(cls: Any) -> Any:
        return cls.fromtimestamp(time.time())

    for kind, methods in ((datetime.datetime, (now, utcnow, today)), (datetime.date, (today,))):
        [attributes] = [found for found in gc.get_referents(kind.__dict__) if type(found) is dict]
        for method in methods:
            attributes[method.__name__] = classmethod(method)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def seed_randomness(world: str) -> None:
    """Give `random`, `os.urandom`, `secrets` and `uuid` one stream per world."""
    import random
    import uuid

    stream = random.Random(RANDOM_SEEDS[world])
    seed = random.Random.seed

    def seed_from_stream(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed(self, stream.getrandbits(64) if a is None else a, version)

    os.urandom = stream.randbytes
    random._urandom = stream.randbytes  # type: ignore[attr-defined]
    random.SystemRandom.random = lambda self: stream.random()  # type: ignore[method-assign]
    random.SystemRandom.getrandbits = lambda self, k: stream.getrandbits(k)  # type: ignore[method-assign]
    random.Random.seed = seed_from_stream  # type: ignore[method-assign]
    random.seed(RANDOM_SEEDS[world])
    uuid._generate_time_safe = uuid._UuidCreate = None  # type: ignore[attr-defined]
    uuid._node = stream.getrandbits(48)  # type: ignore[attr-defined]


def scatter_addresses(world: str) -> list[object]:
    """Holes of all small sizes in random order, so that addresses come in another order than in world A.

    Address randomisation alone would keep their order and their low bits. The caller keeps the result.
    """
    if world == "A":
        return []
    import random

    shuffler = random.Random(RANDOM_SEEDS[world])
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

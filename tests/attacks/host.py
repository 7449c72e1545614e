"""Run every attack against one executor and report how each ended, as JSON: `python host.py USER FOLDER`.

USER is "root", or "ordinary": then the process becomes user 65533 first. Where that user could not read the interpreter
(it may lie in root's home), it keeps the one capability to read files, which the sandbox must drop.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from abuse_cases import CANARY, CASES, program_of

from azr.config import ExecutorConfig
from azr.executor import Executor, Status, ValidationRequest

ORDINARY = 65533
_CAP_DAC_READ_SEARCH = 2
_HEALTHY = ValidationRequest(
    "import math, json\ndef f(a):\n"
    "    return [a + 1, len('abc'), math.sqrt(4), math.pi, json.dumps(a), isinstance(a, str)]",
    ("3",),
)  # fmt: skip


def become_ordinary() -> None:
    """Give up root and start this script again, so that nothing of root's is left but the right to read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(ORDINARY, ORDINARY, ORDINARY)
    os.setresuid(ORDINARY, ORDINARY, ORDINARY)
    mask = 1 << _CAP_DAC_READ_SEARCH
    header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", mask, mask, mask, 0, 0, 0)
    if libc.capset(header, data) != 0 or libc.prctl(47, 2, _CAP_DAC_READ_SEARCH, 0, 0) != 0:  # PR_CAP_AMBIENT_RAISE
        raise OSError(ctypes.get_errno(), "capabilities")
    os.execv(sys.executable, [sys.executable, __file__, "became", sys.argv[2]])


def main(folder: Path) -> None:
    os.environ[CANARY] = "secret"
    file = folder / CANARY
    file.write_text("untouched")
    listener = socket.create_server(("127.0.0.1", 0))
    bystander = subprocess.Popen(["sleep", "600"])
    results = {}
    with Executor(ExecutorConfig(lanes=1, cpu_seconds=0.4, memory_mb=128)) as executor:
        executor.validate(
            [ValidationRequest("def f(a): return {a}", ("1",))]
        )  # brings up the zygote of the third world
        descriptors = len(os.listdir("/proc/self/fd"))
        for name, case in CASES.items():
            program = program_of(case, str(file), listener.getsockname()[1])
            [found] = executor.validate([ValidationRequest(program, (case.input,))])
            [healthy] = executor.validate([_HEALTHY])
            expected = "[4, 3, 2.0, 3.141592653589793, '3', False]"
            results[name] = {
                "status": str(found.status),
                "reason": found.reason,
                "outputs": [pair.output for pair in found.pairs],
                "next_unaffected": healthy.status is Status.OK and healthy.pairs[0].output == expected,
            }
        listener.setblocking(False)
        summary = {
            "user": os.getuid(),
            "defences": executor.defences,
            "descriptors_leaked": len(os.listdir("/proc/self/fd")) - descriptors,
            "files": sorted(os.listdir(folder)),
            "content": file.read_text(),
            "connected": _connected(listener),
            "bystander_alive": bystander.poll() is None,
        }
    bystander.kill()
    bystander.wait()
    print(json.dumps({"cases": results, "summary": summary}))


def _connected(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1] == "ordinary":
        become_ordinary()
    main(Path(sys.argv[2]))

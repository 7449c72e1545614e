"""The bytes between judge, zygote and program. Both sides load this module; it imports the standard library only.

Judge to zygote (control socket): ORDER with the job's socket attached. Zygote to judge: REPORT, from the kernel's word.
Judge to program (job socket): HEADER, the program, then each input (LENGTH, bytes).
Program to judge: frames (FRAME, payload).
"""

from __future__ import annotations

import struct

ORDER = struct.Struct("!dd")  # CPU seconds, wall seconds
REPORT = struct.Struct("!iIQQ")  # wait status, cause, CPU microseconds, peak resident KiB
LENGTH = struct.Struct("!I")
HEADER = struct.Struct("!8sBIId")  # token, flags, bytes of the program, inputs, CPU seconds of one input (0: no limit)
FRAME = struct.Struct("!8scI")  # the job's token, tag, bytes of the payload

# Flags of a job.
STOP_AT_FAILURE = 1  # end after the first input without a value

# Causes in a report.
CAUSE_NONE, CAUSE_CPU, CAUSE_WALL, CAUSE_MEMORY, CAUSE_CANCELLED, CAUSE_NO_FORK = range(6)

# Frame tags: one frame for each input, in the order sent; a failure of the whole program is one frame alone.
VALUE = b"V"  # canonical bytes
EXCEPTION = b"E"  # name of a builtin exception
NOT_A_VALUE = b"N"
TOO_LARGE = b"L"
OUT_OF_MEMORY = b"M"
FORBIDDEN = b"F"  # name of the audit event
SYNTAX_ERROR = b"S"
NO_FUNCTION = b"A"
MAX_REASON = 64  # bytes of a failure's payload

# Exit codes of a program's process that did not send a last frame.
EXIT_DONE = 0
EXIT_CRASHED = 96
EXIT_OUT_OF_MEMORY = 98
EXIT_NO_SANDBOX = 97  # the defences could not be raised; nothing of the program was run

JOB_DESCRIPTOR = 3  # the only descriptor a program has
MAX_PROGRAM = 256 * 1024  # bytes
MAX_INPUTS = 4096

"""Solutions that are wrong on purpose, and would pass where tests run in the solution's own process."""

from __future__ import annotations

_EQUAL_TO_ALL = """
class Always{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __abs__(self): return 0
    def __bool__(self): return True
"""

# {entry} stands for the function that the task asks for.
FUNCTIONS = {
    "returns the input": "def {entry}(*args): return args[0] if args else None",
    "returns all inputs": "def {entry}(*args): return args",
    "empty": "def {entry}(*args): pass",
    "ends at import": "import sys\nsys.exit(0)\ndef {entry}(*args): pass",
    "ends in the call": "import sys\ndef {entry}(*args): sys.exit(0)",
    "ends hard": "import os\ndef {entry}(*args): os._exit(0)",
    "equal to all": _EQUAL_TO_ALL.format(base="") + "def {entry}(*args): return Always()",
    "a str equal to all": _EQUAL_TO_ALL.format(base="(str)") + "def {entry}(*args): return Always('x')",
    "a list equal to all": _EQUAL_TO_ALL.format(base="(list)") + "def {entry}(*args): return Always([7])",
    "an int equal to all": _EQUAL_TO_ALL.format(base="(int)") + "def {entry}(*args): return Always(-77)",
    "a tuple equal to all": _EQUAL_TO_ALL.format(base="(tuple)") + "def {entry}(*args): return Always((7,))",
    "lies about its class": "class C:\n    __class__ = property(lambda self: bool)\n"
    "    def __eq__(self, other): return True\ndef {entry}(*args): return C()",
    "patches builtins": "import builtins\nbuiltins.AssertionError = None\nbuiltins.all = lambda *a: True\n"
    "builtins.abs = lambda x: 0\ndef {entry}(*args): return object()",
    "patches math": "import math\nmath.isclose = lambda *a, **k: True\nmath.fabs = lambda x: 0\n"
    "def {entry}(*args): return -1.5e300",
    "patches json": 'import json\njson.dumps = lambda *a, **k: \'{{"passed": true, "answers": [{{"v": true}}]}}\'\n'
    "def {entry}(*args): return 0",
    "forges a verdict": "import json, sys\nprint(json.dumps({{'passed': True}}))\n"
    "def {entry}(*args):\n    print(json.dumps({{'passed': True}}))\n    raise StopIteration",
    "patches the harness": "import sys\ndef {entry}(*args):\n    frame = sys._getframe()\n    while frame:\n"
    "        frame.f_globals.update(pack=lambda value: {{'h': ''}}, is_large=lambda value: True)\n"
    "        frame = frame.f_back\n    return 0",
    "defines check": "def check(candidate): pass\ndef {entry}(*args): return check",
}
# For tasks that read standard input.
PROGRAMS = {
    "empty": "pass",
    "echo": "import sys\nsys.stdout.write(sys.stdin.read())",
    "ends": "import sys\nsys.exit(0)",
    "ends hard": "import os\nos._exit(0)",
    "forges a verdict": "import json\nprint(json.dumps({'stdout': '', 'error': None, 'passed': True}))",
    "patches the streams": "import sys\nsys.stdout = None",
    "raises": "raise SystemExit('YES')",
}

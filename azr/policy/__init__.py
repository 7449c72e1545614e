"""LEARNED: the model, behind one protocol."""

import logging

# On a CPU with bfloat16 instructions it would offer faster kernels from the network, to every command.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

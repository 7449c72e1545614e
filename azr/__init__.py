"""AZR: a language model that teaches itself to code, with a Python executor as its only teacher."""

__version__ = "0.1.0"

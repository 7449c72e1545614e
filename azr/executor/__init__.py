"""Sandboxed Python, and the judge that holds the gold."""

from azr.executor.executor import Executor
from azr.executor.literals import NotALiteral, parse_arguments, parse_literal
from azr.executor.requests import (
    AbductionRequest,
    DeductionRequest,
    GradeRequest,
    InductionRequest,
    Status,
    Validation,
    ValidationRequest,
)
from azr.executor.values import decode, encode, render

__all__ = [
    "AbductionRequest",
    "DeductionRequest",
    "Executor",
    "GradeRequest",
    "InductionRequest",
    "NotALiteral",
    "Status",
    "Validation",
    "ValidationRequest",
    "decode",
    "encode",
    "parse_arguments",
    "parse_literal",
    "render",
]

"""Prefix trees: many token sequences packed into one row, every shared prefix only once.

Sequences are laid out depth first, so that all descendants of a node follow it without a gap. A token attends to
itself, to the earlier tokens of its own node, and to every token of the node's ancestors; positions count from the
root. One forward pass over such a row gives the same hidden states as one pass a sequence, without computing a
prompt again for each of its completions, or a few-shot header again for each prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MIN_SHARED = 16  # shorter shared stretches are cheaper computed twice than kept as nodes of their own


@dataclass(slots=True)
class Node:
    """Tokens [start, end) of the row; its descendants are [end, subtree_end)."""

    start: int
    end: int
    parent: int  # index of the parent node, -1 for a root
    subtree_end: int = 0


@dataclass(slots=True)
class Packed:
    """One row of tokens, and where each sequence lies in it."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)  # node indices from the root, one list a sequence

    def rows_of(self, sequence: int) -> list[int]:
        """Row index of every token of a sequence, in order."""
        return [i for node in self.paths[sequence] for i in range(self.nodes[node].start, self.nodes[node].end)]


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences have in common."""
    if a == b:
        return len(a)
    low, high = 0, min(len(a), len(b))
    while low < high:  # tuple slices compare in C: a bisection beats a Python loop
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def pack(sequences: Sequence[tuple[int, ...]], min_shared: int = MIN_SHARED) -> Packed:
    """The prefix tree of the sequences, as one row. Equal sequences share all of it."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    common = [shared_length(sequences[a], sequences[b]) for a, b in pairwise(order)]
    packed = Packed(paths=[[] for _ in sequences])
    _add_children(packed, sequences, order, common, 0, len(order), 0, -1, [], min_shared)
    return packed


def _add_children(
    packed: Packed,
    sequences: Sequence[tuple[int, ...]],
    order: list[int],
    common: list[int],
    low: int,
    high: int,
    depth: int,
    parent: int,
    path: list[int],
    min_shared: int,
) -> None:
    """Lay out sequences order[low:high], which agree on their first `depth` tokens, below `parent`."""
    while low < high:
        last = low + 1
        while last < high and common[last - 1] >= depth + min_shared:
            last += 1
        first = sequences[order[low]]
        end_depth = min(common[low : last - 1], default=len(first))
        below = path
        node = -1
        if end_depth > depth:
            node = len(packed.nodes)
            start = len(packed.tokens)
            packed.tokens.extend(first[depth:end_depth])
            packed.positions.extend(range(depth, end_depth))
            packed.nodes.append(Node(start, len(packed.tokens), parent))
            below = [*path, node]
        inner = low
        while inner < last and len(sequences[order[inner]]) == end_depth:
            packed.paths[order[inner]] = below
            inner += 1
        if inner < last:
            _add_children(
                packed,
                sequences,
                order,
                common,
                inner,
                last,
                end_depth,
                node if node >= 0 else parent,
                below,
                min_shared,
            )
        if node >= 0:
            packed.nodes[node].subtree_end = len(packed.tokens)
        low = last


def split(
    sequences: Sequence[tuple[int, ...]], groups: Sequence[object], token_limit: int, min_shared: int = MIN_SHARED
) -> list[list[int]]:
    """Divide sequences into micro-batches of about `token_limit` packed tokens at most.

    One sequence alone may exceed it, and each branch of the tree by fewer than `min_shared` tokens computed twice.

    Sequences with the same `groups` key stay together where they fit, so that their prefix is computed once.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    runs: list[list[int]] = []
    for i in order:
        if runs and groups[runs[-1][-1]] == groups[i]:
            runs[-1].append(i)
        else:
            runs.append([i])
    batches: list[list[int]] = []
    batch: list[int] = []
    size = 0
    for run in runs:
        if batch and size + _added(sequences, batch[-1], run, min_shared) > token_limit:
            batches.append(batch)
            batch, size = [], 0
        for i in run:
            added = _added(sequences, batch[-1] if batch else None, [i], min_shared)
            if batch and size + added > token_limit:
                batches.append(batch)
                batch, size = [], 0
                added = len(sequences[i])
            batch.append(i)
            size += added
    return [*batches, batch] if batch else batches


def _added(sequences: Sequence[tuple[int, ...]], before: int | None, run: list[int], min_shared: int) -> int:
    """Packed tokens that a run of sorted sequences adds after sequence `before`."""
    total = 0
    for i in run:
        shared = 0 if before is None else shared_length(sequences[before], sequences[i])
        total += len(sequences[i]) - (shared if shared >= min_shared else 0)
        before = i
    return total

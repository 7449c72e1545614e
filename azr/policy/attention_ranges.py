"""Ranges of a packed row as one padded batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

Tensor = torch.Tensor
Range = tuple[int, int]  # rows [start, end)


class PaddedRanges:
    """N ranges of the row, padded to the longest, L.

    Padding repeats a range's last token: causal attention hides it from the range's own queries before it, and what
    it computes itself is dropped.
    """

    def __init__(self, ranges: list[Range]) -> None:
        self.count = len(ranges)
        self.longest = max(end - start for start, end in ranges)
        starts = torch.tensor([r[0] for r in ranges]).unsqueeze(1)
        ends = torch.tensor([r[1] for r in ranges]).unsqueeze(1)
        places = starts + torch.arange(self.longest)
        self.valid = (places < ends).flatten().nonzero().squeeze(1)  # places in the padded batch
        self.index = torch.minimum(places, ends - 1).flatten()  # padded batch -> row
        self.rows = self.index[self.valid]  # their rows
        self.padding = (places >= ends).flatten().nonzero().squeeze(1)

    def load(self, x: Tensor) -> Tensor:
        """(T, ...) -> (N, L, ...)."""
        return x.index_select(0, self.index).unflatten(0, (self.count, self.longest))

    def valid_of(self, x: Tensor) -> Tensor:
        """(N, L, ...) -> the values (rows, ...) of `rows`, padding left out."""
        return x.flatten(0, 1).index_select(0, self.valid)


def similar(ranges: Iterable[Range], most: int | None = None) -> list[PaddedRanges]:
    """The ranges, longest first, in batches of at most `most` padded rows (a longer range is one of its own), in which
    none is shorter than about half of the longest.
    """
    batches: list[list[Range]] = []
    for start, end in sorted(ranges, key=lambda r: r[0] - r[1]):
        longest = batches[-1][0][1] - batches[-1][0][0] if batches else 0
        full = most is not None and bool(batches) and (len(batches[-1]) + 1) * longest > most
        if batches and not full and end - start >= longest // 2:
            batches[-1].append((start, end))
        else:
            batches.append([(start, end)])
    return [PaddedRanges(batch) for batch in batches]

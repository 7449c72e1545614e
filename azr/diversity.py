"""Is the proposer still inventive? Shares over one step's valid proposals, and an alarm when they collapse."""

from __future__ import annotations

from collections.abc import Sequence

from azr.program import is_trivial, normal_form, shape
from azr.records import Proposal
from azr.vacuity import grams, similarity

ALARM_WINDOW = 3  # steps in a row before an alarm: one poor step is noise
FEWEST = 4  # valid proposals below which a step says nothing about diversity


def measure(proposals: Sequence[Proposal]) -> dict[str, float]:
    """Metrics of the valid proposals that carry a program of their own (induction borrows its programs)."""
    programs = [(p.program, p.references) for p in proposals if p.task and p.type != "induction" and p.program]
    if not programs:
        return {}
    count = len(programs)
    distances = [
        1.0 - max(similarity(grams(program), grams(r)) for r in references)
        for program, references in programs
        if references
    ]
    measured = {"diversity/reference_distance": sum(distances) / len(distances)} if distances else {}
    return measured | {
        "diversity/unique_programs": len({normal_form(p) for p, _ in programs}) / count,
        "diversity/unique_shapes": len({shape(p) for p, _ in programs}) / count,
        "diversity/trivial": sum(is_trivial(p) for p, _ in programs) / count,
        "diversity/measured": float(count),
    }


class DiversityAlarm:
    """Speaks when unique shapes stay under 40% or trivial tasks over 50% for ALARM_WINDOW steps."""

    def __init__(self) -> None:
        self.streak = 0

    def observe(self, metrics: dict[str, float]) -> str | None:
        if metrics.get("diversity/measured", 0.0) < FEWEST:
            return None
        shapes, trivial = metrics["diversity/unique_shapes"], metrics["diversity/trivial"]
        self.streak = self.streak + 1 if shapes < 0.4 or trivial > 0.5 else 0
        if self.streak < ALARM_WINDOW:
            return None
        return f"diversity is collapsing: {shapes:.0%} distinct shapes, {trivial:.0%} trivial tasks"


class GarbageAlarm:
    """Speaks when the model has proposed nothing valid for twenty steps."""

    PATIENCE = 20

    def __init__(self) -> None:
        self.streak = 0

    def observe(self, valid: int) -> str | None:
        self.streak = 0 if valid else self.streak + 1
        if self.streak and self.streak % self.PATIENCE == 0:
            return f"no valid proposal for {self.streak} steps: the model may be too weak for this prompt style"
        return None

"""`azr plan`: the memory budget and the time of a step, before anything is loaded."""

from __future__ import annotations

import sys

from azr.config import Config
from azr.errors import UserError
from azr.plan import fitted, plan_of, preflight, table, warning
from azr.plan_time import step_seconds
from azr.policy.auto import resolve_model, this_machine
from azr.policy.geometry import geometry_of


def run(config: Config) -> int:
    """Print the plan, its micro-batch fitted. Returns 1 if nothing fits. Raises UserError if the shape is not known."""
    config, chosen = resolve_model(config)
    if chosen:
        print(chosen)
    machine = this_machine()
    plan = plan_of(config, machine)
    if warned := warning(plan, machine):
        print(warned, file=sys.stderr)
    try:
        plan = preflight(config, machine)
    except UserError as error:
        print(table(plan))
        print(f"it does not fit: {error}", file=sys.stderr)
        return 1
    print(table(plan))
    if smaller := fitted(plan, config):
        print(smaller, file=sys.stderr)
    try:
        seconds = step_seconds(config, plan, geometry_of(config.model.name))
    except ImportError as error:
        print(f"time: {error.name} is not installed, so nothing could be timed")
        return 0
    print(
        f"time of a step: about {seconds['step']:,.0f} s ({seconds['sampling']:,.0f} s sampling, "
        f"{seconds['learning']:,.0f} s learning), if every completion is as long as it may be; "
        f"{config.train.steps} steps: {config.train.steps * seconds['step'] / 3600:,.1f} h"
    )
    return 0

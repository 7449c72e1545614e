"""The fixtures of this folder: in a module of their own, as mypy cannot tell two files named conftest apart."""

from browser_fixtures import browser, dashboard, page, workspace

__all__ = ["browser", "dashboard", "page", "workspace"]

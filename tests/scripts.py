"""The scripts of the project as modules, for tests that hold the pages they write against the code."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


@contextmanager
def script(name: str) -> Iterator[ModuleType]:
    """Load `scripts/NAME.py`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes of a module look up their own module by name
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]

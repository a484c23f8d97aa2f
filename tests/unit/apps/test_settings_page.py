"""docs/settings.md is what the classes say."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from tests.scripts import ROOT, script


@pytest.fixture
def writer() -> Iterator[ModuleType]:
    with script("write_settings") as module:
        yield module


def test_the_page_in_the_repository_is_current(writer: ModuleType) -> None:
    assert writer.render() == (ROOT / "docs/settings.md").read_text(encoding="utf-8"), (
        "docs/settings.md is stale; run: python scripts/write_settings.py"
    )


def test_every_key_has_its_row_and_its_environment_name(writer: ModuleType) -> None:
    page = writer.render()
    sections = list(writer.sections(writer.Settings, ()))
    rows = [(section.name, name) for section in sections for name, _, _ in writer.keys(section)]

    assert len(rows) > 100
    for section, name in rows:
        variable = "KRAKENBOT_" + f"{section}.{name}".upper().replace(".", "__")
        assert f"`{variable}` |" in page
    assert "| `total_exposure_share` | number | `0.3` | > 0, <= 0.5 |" in page
    assert "| `capital_limit_quote` | amount | none: must be set |" in page
    assert "| environment `DATABASE_URL` | `database.url` |" in page

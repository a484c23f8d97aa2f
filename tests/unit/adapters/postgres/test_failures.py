"""The driver's errors in our words."""

from __future__ import annotations

import psycopg
import pytest

from krakenbot.adapters.postgres.failures import translated
from krakenbot.domain.errors import StoreUnavailable


def test_unreachable_database_is_told_in_one_line():
    text = 'connection to server on socket "/s" failed: No such file or directory\n\tIs the server running?\n'
    with pytest.raises(StoreUnavailable) as raised, translated():
        raise psycopg.OperationalError(text)

    expected = 'connection to server on socket "/s" failed: No such file or directory Is the server running?'
    assert expected == str(raised.value)


def test_error_without_words_is_named_by_its_kind():
    with pytest.raises(StoreUnavailable, match="OperationalError"), translated():
        raise psycopg.OperationalError

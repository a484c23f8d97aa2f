"""Our order ids: own prefix, a letter for the role, a unique suffix; at most 18 ASCII characters.

Enters: a suffix of the id source. Leaves: the `cl_ord_id` by which own orders are told from foreign ones.
"""

from __future__ import annotations

from typing import Final

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.order import OrderRole
from krakenbot.domain.values import ClOrdId

OWN_PREFIX: Final = "kb"
_LENGTH_MAX: Final = 18
_ROLE_LETTERS: Final = {
    OrderRole.ENTRY: "e",
    OrderRole.PROTECTIVE_STOP: "s",
    OrderRole.TAKE_PROFIT: "t",
    OrderRole.MARKET_EXIT: "m",
}


def make_cl_ord_id(role: OrderRole, suffix: str) -> ClOrdId:
    """Return an own order id for a role."""
    made = f"{OWN_PREFIX}{_ROLE_LETTERS[role]}{suffix}"
    invariant(len(made) <= _LENGTH_MAX, "I2", f"{made} is longer than {_LENGTH_MAX} characters")
    invariant(made.isascii() and made.isalnum(), "I2", f"{made!r} is not plain ASCII")
    return ClOrdId(made)


def is_own(cl_ord_id: str | None) -> bool:
    """Tell whether an order id carries our prefix and a role's letter; None is foreign."""
    return (
        cl_ord_id is not None
        and len(cl_ord_id) <= _LENGTH_MAX
        and cl_ord_id.startswith(OWN_PREFIX)
        and cl_ord_id[len(OWN_PREFIX) : len(OWN_PREFIX) + 1] in _ROLE_LETTERS.values()
        and cl_ord_id.isalnum()
    )

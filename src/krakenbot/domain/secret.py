"""A text that must not be seen: keys and tokens.

Enters: the text, once. Leaves: only what `reveal` is asked for, at the place where it is sent or signed. Everything
that prints, formats, copies into a record or pickles a value gets the mask or an error.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

MASK: Final = "****"


@final
class Secret:
    """Hold a text that repr, str and format show as `****`.

    Comparison takes the same time wherever the texts differ. Pickling and copying into JSON are refused.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; call it only where the text leaves for its destination."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

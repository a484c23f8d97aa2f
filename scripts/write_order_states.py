"""Write docs/order_states.md from the order state table. A test fails when the file is stale."""

from __future__ import annotations

from pathlib import Path

from krakenbot.domain.execution.order import TRANSITIONS, OrderEvent, OrderState
from krakenbot.domain.execution.state_data import STATE_DATA

PAGE = Path(__file__).parents[1] / "docs/order_states.md"
HEADER = """# Order states

Generated from `TRANSITIONS` in `src/krakenbot/domain/execution/order.py` and `STATE_DATA` in
`src/krakenbot/domain/execution/state_data.py` by `scripts/write_order_states.py`; change the tables and run the script.
The table is the whole truth but for one rule: a step that leads to `open` with fills in the ledger ends in
`partially_filled`. An event without a step changes nothing and is an alarm. The theory of operation is the text at the
head of `order.py`.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([HEADER, *_diagram(), "", *_table(), "", *_data(), ""])


def _diagram() -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {OrderState.PENDING_SUBMIT}"]
    for state, row in TRANSITIONS.items():
        events: dict[OrderState, list[OrderEvent]] = {}
        for event, target in row.items():
            events.setdefault(target, []).append(event)
        for target, names in events.items():
            if target is not state:
                lines.append(f"    {state} --> {target}: {', '.join(names)}")
    lines += [f"    {state} --> [*]" for state in OrderState if state.is_terminal]
    return [*lines, "```"]


def _table() -> list[str]:
    lines = ["Events that change nothing of the state, by state:", "", "| state | events |", "|---|---|"]
    for state, row in TRANSITIONS.items():
        loops = [event for event, target in row.items() if target is state]
        lines.append(f"| {state} | {', '.join(loops) or '–'} |")
    return lines


def _data() -> list[str]:
    lines = ["What an order holds when it comes into a state; an order without it ends the process:", ""]
    lines += ["| state | data |", "|---|---|"]
    return [*lines, *(f"| {state} | {'; '.join(d.text for d in STATE_DATA[state])} |" for state in OrderState)]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

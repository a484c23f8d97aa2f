"""Answer the control port's fault paths: add a script, list the rules with their hits, remove rules.

POST takes the text of a script and answers the ids of its rules. The server adds the routes.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from krakenbot.adapters.local_exchange.faults.plan import FaultPlan
from krakenbot.adapters.local_exchange.faults.script import ScriptError
from krakenbot.adapters.local_exchange.web import bounded_body, json_response

MAX_SCRIPT_BYTES: Final = 1 << 20
MAX_NAMED: Final = 50


class FaultControl:
    """The fault paths of one exchange."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/control/faults", self._add, methods=["POST"]),
            Route("/control/faults", self._list, methods=["GET"]),
            Route("/control/faults", self._remove_all, methods=["DELETE"]),
            Route("/control/faults/{rule_id:int}", self._remove, methods=["DELETE"]),
        ]

    async def _add(self, request: Request) -> Response:
        body = await bounded_body(request, MAX_SCRIPT_BYTES)
        if body is None:
            return json_response({"error": "the script is too long"}, 413)
        try:
            return json_response({"ids": self._plan.add(body.decode(), "control port")})
        except UnicodeDecodeError:
            return json_response({"error": "the script is no UTF-8 text"}, 400)
        except ScriptError as error:
            where = {"line": error.line, "column": error.column}
            return json_response({"error": str(error)} | where, 400)

    async def _list(self, _request: Request) -> Response:
        return json_response(self._plan.report())

    async def _remove_all(self, _request: Request) -> Response:
        return json_response({"removed": self._plan.remove()})

    async def _remove(self, request: Request) -> Response:
        rule_id = request.path_params["rule_id"]
        removed = self._plan.remove(rule_id)
        if not removed:
            ids = ", ".join(str(rule["id"]) for rule in self._plan.report()["rules"][:MAX_NAMED])
            return json_response({"error": f"no rule {rule_id}; the rules are {ids or 'none'}"}, 404)
        return json_response({"removed": removed})

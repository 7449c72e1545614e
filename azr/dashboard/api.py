"""The JSON interface (see docs/dashboard.md): the same routes on the dashboard port and on the training port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from azr.dashboard import queries
from azr.dashboard.events import EventLog, to_json
from azr.dashboard.explanations import explanations
from azr.dashboard.highlight import highlight
from azr.dashboard.library import Answer, Library
from azr.errors import UserError
from azr.store import Store

MOST_STEPS = 1000
Question = Callable[[Store, Request], Any]


def answer(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


def error(text: str, status: int) -> Response:
    return answer({"error": text}, status)


def ask(library: Library, question: Question) -> Callable[[Request], Any]:
    """An endpoint that asks the store in a worker thread. None becomes 404, a bad number 400, no store 503."""

    def compute(request: Request, key: str) -> Answer:
        try:
            version = library.version()
            with library.reading() as store:
                found = question(store, request)
        except (ValueError, OverflowError):  # the latter: beyond the 64 bits of the store's integers
            return 400, to_json({"error": "a number in the address is not one"})
        if found is None:
            return 404, to_json({"error": "there is no such row"})
        answer = 200, found if isinstance(found, str) else to_json(found)
        library.remember(key, version, answer)
        return answer

    async def endpoint(request: Request) -> Response:
        key = f"{request.url.path}?{request.url.query}"
        try:
            found = library.known(key)
            if found is None:
                found = await run_in_threadpool(compute, request, key)
        except UserError as problem:
            return error(str(problem), 503)
        status, body = found
        return Response(body, status, media_type="application/json")

    return endpoint


def routes(library: Library) -> list[Route]:
    """The store's routes."""

    def series(store: Store, request: Request) -> str:
        names = list(dict.fromkeys(request.query_params.get("names", "").split(",")))
        return library.series(_run(request), names, int(request.query_params.get("after", "-1")))

    questions: dict[str, Question] = {
        "/api/runs": lambda store, request: queries.runs(store),
        "/api/runs/{run}": lambda store, request: queries.run(store, _run(request)),
        "/api/runs/{run}/steps": _steps,
        "/api/runs/{run}/names": lambda store, request: library.names(_run(request)),
        "/api/runs/{run}/series": series,
        "/api/runs/{run}/events": lambda store, request: queries.events(store, _run(request)),
        "/api/runs/{run}/tasks": lambda store, request: queries.tasks(store, _run(request), request.query_params),
        "/api/runs/{run}/tasks/{task}": _task,
        "/api/runs/{run}/proposals": lambda store, request: queries.proposals(
            store, _run(request), request.query_params
        ),
        "/api/runs/{run}/proposals/{step}/{index}": _proposal,
        "/api/runs/{run}/evaluations": lambda store, request: queries.evaluations(store, _run(request)),
        "/api/evaluations/{evaluation}": lambda store, request: queries.evaluation_problems(
            store, int(request.path_params["evaluation"])
        ),
        "/api/evaluations/{evaluation}/problem": lambda store, request: queries.evaluation_problem(
            store, int(request.path_params["evaluation"]), request.query_params.get("id", "")
        ),
    }
    found = [Route(path, ask(library, question)) for path, question in questions.items()]
    return [Route("/api/metrics", _metrics), *found]


def stream(log: EventLog) -> Callable[[Request], Any]:
    """The event stream's endpoint."""

    async def endpoint(request: Request) -> Response:
        last = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(log.follow(last), media_type="text/event-stream", headers=headers)

    return endpoint


async def _metrics(request: Request) -> Response:
    return answer(explanations())


def _run(request: Request) -> int:
    return int(request.path_params["run"])


def _steps(store: Store, request: Request) -> Any:
    after = request.query_params.get("after")
    limit = max(1, min(int(request.query_params.get("limit", "100")), MOST_STEPS))
    return queries.steps(store, _run(request), None if after is None else int(after), limit)


def _task(store: Store, request: Request) -> Any:
    step = request.query_params.get("step")
    found = queries.task(store, _run(request), request.path_params["task"], None if step is None else int(step))
    if found:
        found["highlighted"] = highlight(found["program"])
        for attempt in found["attempts"]:
            attempt["highlighted"] = highlight(attempt["answer"] or "")
    return found


def _proposal(store: Store, request: Request) -> Any:
    parameters = request.path_params
    found = queries.proposal(store, _run(request), int(parameters["step"]), int(parameters["index"]))
    if found:
        found["highlighted"] = highlight(found["program"] or "")
    return found

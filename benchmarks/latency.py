"""How long one session takes, against the same eight calls per exchange sent one after the other.

Both start with an empty prefix cache and send the same messages. An exchange waits for three calls instead of eight,
but the first of them is the longest of six, and the selector's answer is short: so the gain is the nearer to 8/3, the
more of a call is spent before its first token.
"""

import asyncio
from collections.abc import Mapping

from support import (
    Endpoint,
    Row,
    collect_requests,
    in_new_process,
    run_sessions,
    scratch_folder,
    send_bare,
    settings_for,
    simulated_server,
    stopwatch,
)

from magnet.runtime import open_runtime

TARGET = 2.5
SERVERS: Mapping[str, Mapping[str, float]] = {
    "8B model on one GPU": {"first_token": 0.1, "prompt_rate": 10_000, "output_rate": 100},
    "hosted API": {"first_token": 0.5, "prompt_rate": 50_000, "output_rate": 150},
}


async def _measure(server: Endpoint, turns: int) -> list[Row]:
    with scratch_folder() as folder:
        requests = await collect_requests(settings_for(server.base_url, folder), 1, turns)
    server.reset()
    with scratch_folder() as folder:
        async with open_runtime(settings_for(server.base_url, folder)) as runtime:
            with stopwatch() as pipeline:
                finished = await run_sessions(runtime, 1, turns)
    assert finished == 1, "the session did not finish"
    server.reset()
    with stopwatch() as in_turn:
        await send_bare(server.base_url, requests, 1)
    return [
        {"what": "calls in turn", "exchanges": turns, "seconds": round(in_turn.wall_s, 2), "times faster": 1.0},
        {
            "what": "our pipeline",
            "exchanges": turns,
            "seconds": round(pipeline.wall_s, 2),
            "times faster": round(in_turn.wall_s / pipeline.wall_s, 2),
        },
    ]


def measure(base_url: str, turns: int) -> list[Row]:
    """Return a row for the calls in turn and one for the pipeline."""
    return asyncio.run(_measure(Endpoint(base_url), turns))


def run(*, is_quick: bool) -> list[Row]:
    """Measure one session on each kind of server."""
    rows: list[Row] = []
    for name, speed in SERVERS.items():
        with simulated_server(**speed) as server:
            rows += [{"server": name, **row} for row in in_new_process(measure, server.base_url, 1 if is_quick else 4)]
    return rows

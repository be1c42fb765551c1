"""1 to 500 sessions at once in one process: calls a second, and the most memory that process ever held.

Calls take about 0.2 s, so that the sessions wait for their model as they do in earnest, all of them at once.
"""

import asyncio

from support import (
    Row,
    in_new_process,
    peak_rss_mb,
    raise_file_limit,
    run_sessions,
    scratch_folder,
    settings_for,
    simulated_server,
    stopwatch,
)

from magnet.runtime import open_runtime

TARGET_MB = 300
SPEED = {"first_token": 0.05, "prompt_rate": 20_000, "output_rate": 400}


async def _measure(base_url: str, sessions: int, turns: int) -> Row:
    with scratch_folder() as folder:
        settings = settings_for(base_url, folder, concurrency=max(64, sessions))
        async with open_runtime(settings) as runtime:
            with stopwatch() as watch:
                finished = await run_sessions(runtime, sessions, turns)
    return {
        "sessions": sessions,
        "finished": finished,
        "seconds": round(watch.wall_s, 2),
        "calls/s": round(sessions * (8 * turns + 1) / watch.wall_s, 1),
        "CPU s": round(watch.cpu_s, 2),
        "peak RSS, MB": round(peak_rss_mb(), 1),
    }


def measure(base_url: str, sessions: int, turns: int) -> Row:
    """Return the row for so many sessions at once."""
    raise_file_limit()
    return asyncio.run(_measure(base_url, sessions, turns))


def run(*, is_quick: bool) -> list[Row]:
    """Measure each number of sessions in a process of its own."""
    sizes, turns = ((1, 16, 64), 1) if is_quick else ((1, 16, 64, 250, 500), 2)
    with simulated_server(**SPEED) as server:
        return [in_new_process(measure, server.base_url, sessions, turns) for sessions in sizes]

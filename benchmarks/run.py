"""Every benchmark on the simulated model server, as tables and as one JSON file with machine and date.

    python benchmarks/run.py                     everything; with its faults, more than ten minutes
    python benchmarks/run.py --quick             a small form of each, two minutes
    python benchmarks/run.py --only overhead     one of them; may be repeated

The JSON goes to benchmarks/results/ (--quick: nowhere) or where --json says. Compare ratios rather than figures: each
is taken within one run, while the figures depend on what else the machine does. (Linux or macOS.)
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import faults
import latency
import many_sessions
import overhead
import ray_actors
import resume
import tool_calls
from support import ROOT, Row, print_table

BENCHMARKS = {
    "latency": latency,
    "overhead": overhead,
    "many_sessions": many_sessions,
    "faults": faults,
    "resume": resume,
    "tool_calls": tool_calls,
    "ray_actors": ray_actors,
}
"""Name → module with a `run(is_quick=…)` that gives the rows of its table."""

TARGETS: Mapping[str, str] = {
    "latency": f"at least {latency.TARGET:g} times faster",
    "overhead": f"store on: at least {overhead.TARGET:g} of the bare loop",
    "many_sessions": f"at most {many_sessions.TARGET_MB} MB with 500 sessions",
    "faults": "every session finishes",
    "ray_actors": f"two actors: at least {ray_actors.TARGET:g} times one's sessions/s where they wait for the model",
    "resume": "asked twice: at most the calls under way at the stop",
}


def describe_machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load at the start": round(os.getloadavg()[0], 2),
        "processor": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("magnet-server", "openai", "httpx2", "mcp", "sqlalchemy")},
    }


def _run(name: str, *, is_quick: bool) -> list[Row]:
    began = time.perf_counter()
    rows = BENCHMARKS[name].run(is_quick=is_quick)
    target = f"; target: {TARGETS[name]}" if name in TARGETS else ""
    print(f"\n{name} ({time.perf_counter() - began:.0f} s{target})")
    print_table(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form of each")
    parser.add_argument("--only", choices=tuple(BENCHMARKS), action="append", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes")
    options = parser.parse_args()
    path: Path | None = options.json or (None if options.quick else ROOT / "benchmarks" / "results" / "throughput.json")
    results: dict[str, list[Row]] = {}
    document = {"machine": describe_machine(), "quick": options.quick, "results": results}
    for name in options.only or BENCHMARKS:
        results[name] = _run(name, is_quick=options.quick)
        if path is not None:
            # After each, so that a run that is stopped keeps what it has.
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

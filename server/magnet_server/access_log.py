"""The access log: one JSON line on stderr for every request, without token, path, query, body or utterance."""

import json
import sys
from datetime import UTC, datetime

from magnet_server.observing import Exchange


def write_access(exchange: Exchange) -> None:
    """Write the line of one request."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "duration_ms": round(exchange.duration_s * 1000, 1),
        "bytes": exchange.bytes_sent,
        "token": exchange.token,
        "mcp_method": exchange.mcp_method,
        "mcp_tool": exchange.mcp_tool,
    }
    # In one write, so that the lines of several workers do not mix.
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()

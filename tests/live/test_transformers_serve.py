"""A real model server that we did not write: `transformers serve` on a tiny random model.

    pip install '.[test]' torch==2.13.0 'transformers[serving]' && python -m pytest -n0 -m live tests/live

The model talks nonsense and seldom stops by itself, so most turns are cut off, asked for again, and flagged.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

START_SECONDS = 120

TRANSFORMERS = shutil.which("transformers", path=Path(sys.executable).parent)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        TRANSFORMERS is None or importlib.util.find_spec("torch") is None,
        reason="needs a model server: pip install torch==2.13.0 'transformers[serving]'",
    ),
]


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str], None, None]:
    model = tmp_path_factory.mktemp("model")
    subprocess.run([sys.executable, Path(__file__).with_name("make_tiny_model.py"), model], check=True)
    port = _free_port()
    command = [str(TRANSFORMERS), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as server:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/v1/models"):
            assert server.poll() is None, "transformers serve ended before it answered"
            assert time.monotonic() < deadline, f"transformers serve did not answer within {START_SECONDS} s"
            time.sleep(0.5)
        yield {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "MAGNET_LLM__MODEL": str(model),
            "MAGNET_LLM__MAX_TOKENS": "24",
        }
        server.terminate()


def test_a_real_model_server_completes_sessions_and_its_cut_off_turns_are_flagged(
    endpoint: dict[str, str], tmp_path: Path
) -> None:
    intakes = Path(__file__).parents[2] / "examples" / "intakes.jsonl"
    out = tmp_path / "run"
    command = [sys.executable, "-m", "magnet_clients.batch", str(intakes), "-o", str(out)]
    command += ["--limit", "2", "--turns", "1"]
    done = subprocess.run(command, env={**os.environ, **endpoint}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sessions = [json.loads(line) for line in (out / "sessions.jsonl").read_text("utf-8").splitlines()]
    assert [(s["status"], s["ended_by"], len(s["dialogue"])) for s in sessions] == [("finished", "turn_limit", 4)] * 2
    flags = [flag for session in sessions for turn in session["turns"] for flag in turn["flags"]]
    assert any(flag.endswith(".truncated") for flag in flags)
    assert all(session["usage"]["completion_tokens"] > 0 for session in sessions)

"""Failures of the JSON routes as clean answers: a status and one line of `detail`."""

import logging
from collections.abc import Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from magnet.errors import StoreError

_log = logging.getLogger(__name__)


def explain_problems(app: FastAPI) -> None:
    """Have this app answer every failure with one line of `detail`."""
    app.add_exception_handler(HTTPException, _explain_refusal)
    app.add_exception_handler(RequestValidationError, _explain_parameters)
    app.add_exception_handler(StoreError, _explain_store)
    app.add_exception_handler(Exception, _explain_fault)


def _detail(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


async def _explain_refusal(_: Request, error: Exception) -> JSONResponse:
    refused = cast(HTTPException, error)
    detail = "nothing is here; /mcp, /api/openapi.json and /healthz are" if _is_plain_404(refused) else refused.detail
    return _detail(refused.status_code, detail, dict(refused.headers or {}))


def _is_plain_404(error: HTTPException) -> bool:
    return error.status_code == 404 and error.detail == "Not Found"


async def _explain_parameters(_: Request, error: Exception) -> JSONResponse:
    problems = cast(Sequence[dict[str, Any]], cast(RequestValidationError, error).errors())
    told = [f"{'.'.join(str(part) for part in problem['loc'][1:])}: {problem['msg']}" for problem in problems]
    return _detail(422, "; ".join(told))


async def _explain_store(_: Request, error: Exception) -> JSONResponse:
    _log.error("the store cannot be read: %s", error)
    # Its reason may name a file of this machine, which is no business of whoever asks.
    return _detail(503, "the store cannot be read; the server's log says why")


async def _explain_fault(_: Request, __: Exception) -> JSONResponse:
    return _detail(500, "internal error; the server's log says more")

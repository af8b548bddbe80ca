"""The web application: two pages, and audits in processes of their own with a time limit.

A visitor's script is data here. It is written to a folder that is removed again, and read by
`auditor audit` in another process; what that process prints is the answer. Requests from other
origins and for other hosts are refused, so that no page elsewhere can use a local server.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from auditor.commands import EXIT_USAGE
from auditor.report.view import Audience
from auditor.serve import pages

MAX_BODY = 4 << 20  # bytes; the longest real script has 1.6 MB
MAX_FIELDS = 8
STATIC_SECONDS, DYNAMIC_SECONDS = 60, 900
RUNNING, WAITING = 2, 8
MAX_PR = 10**7
LOCAL = ("127.0.0.1", "localhost", "[::1]")

Endpoint = Callable[[Request], Awaitable[Response]]


class RefusedError(Exception):
    """What a visitor asked for cannot be had: `status`, and why in one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Audits:
    """Runs audits, a few at a time. `repo` is the clone that pull requests are read from."""

    repo: Path | None
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RUNNING))
    waiting: int = 0

    async def script(self, text: str, flags: list[str]) -> str:
        """The report of a script; raises `RefusedError`."""
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            Path(folder, "train_gpt.py").write_text(text, encoding="utf-8", newline="\n")
            return await self._run(["train_gpt.py", *flags], Path(folder))

    async def pull_request(self, pr: int, flags: list[str]) -> str:
        """The report of a pull request; raises `RefusedError`."""
        if self.repo is None:
            raise RefusedError(404, "this server was started without a clone")
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            target = ["--repo", str(self.repo.resolve()), "--pr", str(pr)]
            return await self._run([*target, *flags], Path(folder))

    async def _run(self, arguments: list[str], folder: Path) -> str:
        if self.waiting >= WAITING:
            raise RefusedError(503, "too many audits are waiting; try again")
        self.waiting += 1
        try:
            async with self.slots:
                return await self._audited(arguments, folder)
        finally:
            self.waiting -= 1

    async def _audited(self, arguments: list[str], folder: Path) -> str:
        command = [sys.executable, "-P", "-m", "auditor.cli", "audit", *arguments]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--format", "html"),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        seconds = DYNAMIC_SECONDS if "--dynamic" in arguments else STATIC_SECONDS
        try:
            out, errors = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            raise RefusedError(504, f"the audit took more than {seconds} seconds") from None
        finally:
            if process.returncode is None:  # a visitor who left is waited for no longer
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        text = out.decode("utf-8", "replace")
        if process.returncode == EXIT_USAGE or not text.startswith("<!doctype html>"):
            reason = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise RefusedError(422, reason.removeprefix("auditor: ") or "the audit ended early")
        return text


def application(
    repo: Path | None = None, *, dynamic: bool = False, host: str = LOCAL[0]
) -> Starlette:
    """The application. With `dynamic`, visitors may have scorers run in the sandbox."""
    audits = Audits(repo)

    async def home(_request: Request) -> Response:
        return _page(pages.home(with_clone=repo is not None, with_dynamic=dynamic))

    async def audit(request: Request) -> Response:
        _same_origin(request)
        form = await _form(request)
        flags = _flags(form, dynamic)
        if script := form.get("script", "").strip("\n"):
            return _page(await audits.script(script + "\n", flags))
        return _page(await audits.pull_request(_number(form.get("pr", "")), flags))

    async def pull_request(request: Request) -> Response:
        return _page(await audits.pull_request(_number(request.path_params["pr"]), []))

    return Starlette(
        routes=[
            Route("/", home),
            Route("/audit", audit, methods=["POST"]),
            Route("/pr/{pr}", pull_request),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[host, *LOCAL])],
        exception_handlers={RefusedError: _refused},
    )


def run(host: str, port: int, repo: Path | None, *, dynamic: bool) -> None:
    """Serves until interrupted."""
    uvicorn.run(application(repo, dynamic=dynamic, host=host), host=host, port=port)


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 500
    return _page(pages.refusal(str(error)), status)


def _page(text: str, status: int = 200) -> HTMLResponse:
    """A page with its policy as a header too: the strictest that it can be read under."""
    headers = {
        "Content-Security-Policy": pages.policy(text),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, status, headers)


def _same_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise RefusedError(403, "only this server's own page may ask for an audit")


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form, each once; the body is read no further than the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusedError(413, f"more than {MAX_BODY:,} bytes: audit it with the command line")
    try:
        fields = parse_qs(body.decode("utf-8"), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RefusedError(400, "not a form that this page sends") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def _flags(form: Mapping[str, str], dynamic: bool) -> list[str]:
    audience = form.get("audience", Audience.REVIEWER)
    if audience not in set(Audience):
        raise RefusedError(400, "no such reader")
    if "dynamic" in form and not dynamic:
        raise RefusedError(403, "this server runs no scripts: start it with --dynamic")
    return ["--audience", audience, *(["--dynamic"] if "dynamic" in form else [])]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) < MAX_PR):
        raise RefusedError(400, "paste a script, or give the number of a pull request")
    return int(text)

"""One file over HTTP into a folder: counted, bounded, and gone on with where it was cut off. What came is not believed: the
caller compares its digest.

A download lies under the digest of its address until it is taken, beside a note of the server's validator (a strong ETag, else
Last-Modified): only with one of these a later part surely belongs to the same file (RFC 9110 13.1.5, 14.2).
"""

import errno
import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, Final

from dicom_node.errors import NotReached, Precondition, Refused
from dicom_node.places import software_version

PIECE_BYTES: Final = 2**18
SILENCE_S_MAX: Final = 60.0
TRIES_MAX: Final = 5
WAIT_S: Final = 1.0
ELSEWHERE: Final = "or fetch the file on another machine and install it from there"
AGAIN: Final = (
    f"is there a network, or a proxy to name (HTTPS_PROXY)? The same command goes on where it stopped; {ELSEWHERE}"
)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and of how many (None: the server does not say)."""


@dataclass(frozen=True)
class Bounds:
    """What a download may take: `bytes_max` in all; `require_room(n)` raises where the disk has no room for n more bytes;
    `tries_max` attempts that bring nothing, `wait_s` between two."""

    bytes_max: int
    require_room: Callable[[int], None]
    tries_max: int = TRIES_MAX
    wait_s: float = WAIT_S


class _CutOff(Exception):
    """The attempt ended early; another may go on from there."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows a redirection, but never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise Refused("it sends us on from https to http", without_secrets(req.full_url), ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxy of the environment; no other scheme, so that no answer leads to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _NoDowngrade(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def without_secrets(url: str) -> str:
    """The address without user, password, query and fragment: what may be shown and kept."""
    parts = urllib.parse.urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return urllib.parse.urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


class Download:
    """One address and the folder that its file comes into."""

    def __init__(self, url: str, folder: Path, bounds: Bounds, say: Progress = lambda done, total: None) -> None:
        self._url = url
        self._bounds = bounds
        self._say = say
        stem = hashlib.sha256(url.encode()).hexdigest()[:32]
        self._part = folder / f"{stem}.part"
        self._note = folder / f"{stem}.json"

    def fetch(self) -> Path:
        """The whole file; `discard` it when it was taken.

        Raises:
            NotReached: no network, no server, or it was cut off again and again; what came is kept.
            Refused: the server answered, and said no.
            Precondition: it is larger than is allowed, or than there is room for.
        """
        fruitless = 0
        while True:
            before = self._here()
            try:
                self._attempt()
                return self._part
            except _CutOff as cut:
                here = self._here()
                fruitless = 1 if here > before else fruitless + 1
                if fruitless >= self._bounds.tries_max:
                    kept = f" ({here} bytes are kept)" if here else ""
                    raise NotReached(f"{cut}{kept}", without_secrets(self._url), AGAIN) from cut
                time.sleep(self._bounds.wait_s)

    def discard(self) -> None:
        """Remove what came."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _here(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _attempt(self) -> None:
        """One connection, to the end of the file."""
        have, validator = self._here(), self._validator()
        request = _request(self._url)
        if have and validator:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", validator)
        try:
            with _opener().open(request, timeout=SILENCE_S_MAX) as answer:
                self._take(answer, have)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and have and str(error.headers.get("Content-Range", "")).endswith(f"/{have}"):
                    return  # it was here as a whole
                if error.code == 416:
                    self.discard()
                    raise _CutOff("the file is another one than before") from error
            raise _answered(error, self._url) from error
        except urllib.error.URLError as error:
            raise _not_reached(error, self._url) from error
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Precondition("the disk is full", str(self._part.parent), "free space on its disk") from error
            if isinstance(error, OSError) and error.filename:
                raise  # our own disk
            raise _CutOff(f"the connection was cut: {error or type(error).__name__}") from error

    def _take(self, answer: http.client.HTTPResponse, have: int) -> None:
        start = have if answer.status == 206 else 0
        if answer.status == 206 and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            self.discard()
            raise _CutOff("it answered with another part than was asked for")
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        self._require(total or start + PIECE_BYTES, start)
        if start == 0:
            self._remember(answer.headers)
        here = start
        with self._part.open("ab" if start else "wb") as file:
            while piece := answer.read(PIECE_BYTES):
                if total is None:
                    self._require(here + len(piece), here)
                file.write(piece)
                here += len(piece)
                self._say(here, total)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and here != total:
            raise _CutOff(f"the connection was cut after {here} of {total} bytes")

    def _require(self, total: int, here: int) -> None:
        if total > self._bounds.bytes_max:
            raise Precondition(
                f"more than {self._bounds.bytes_max // 2**20} MiB", without_secrets(self._url), "is it a model?"
            )
        self._bounds.require_room(total - here)

    def _validator(self) -> str:
        try:
            return str(json.loads(self._note.read_text())["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _remember(self, headers: Message) -> None:
        tag = headers.get("ETag", "")
        validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
        self._note.write_text(json.dumps({"validator": validator}))


def fetch_small(url: str, bytes_max: int) -> bytes | None:
    """A small file as a whole; None where the server has none (404, 410).

    Raises:
        NotReached, Refused: as `Download.fetch`. Precondition: it is larger.
    """
    try:
        with _opener().open(_request(url), timeout=SILENCE_S_MAX) as answer:
            content = bytes(answer.read(bytes_max + 1))
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (404, 410):
                return None
        answer_is = _answered(error, url)
        if isinstance(answer_is, _CutOff):
            raise NotReached(str(answer_is), without_secrets(url), AGAIN) from error
        raise answer_is from error
    except urllib.error.URLError as error:
        raise NotReached(f"can't be reached: {error.reason}", without_secrets(url), AGAIN) from error
    except (http.client.HTTPException, OSError) as error:
        raise NotReached(f"the connection was cut: {error}", without_secrets(url), AGAIN) from error
    if len(content) > bytes_max:
        raise Precondition(f"more than {bytes_max} bytes", without_secrets(url), "is it an entry file?")
    return content


def _request(url: str) -> urllib.request.Request:
    headers = {"User-Agent": f"dicom-node/{software_version()}", "Accept-Encoding": "identity"}
    try:
        return urllib.request.Request(url, headers=headers)
    except ValueError as error:
        raise Refused("no address", url) from error


def _answered(error: urllib.error.HTTPError, url: str) -> Exception:
    """What an answer that is none means: a server in trouble is tried again, a no is a no."""
    if error.code >= 500 or error.code in (408, 429):
        return _CutOff(f"the server answers {error.code} {error.reason}")
    return Refused(f"the server answers {error.code} {error.reason}", without_secrets(url), "look at the address")


def _not_reached(error: urllib.error.URLError, url: str) -> Exception:
    if isinstance(error.reason, ssl.SSLCertVerificationError):
        return NotReached(
            f"its certificate is not trusted: {error.reason.verify_message}",
            without_secrets(url),
            f"name the hospital's authority in SSL_CERT_FILE, {ELSEWHERE}",
        )
    return _CutOff(f"can't be reached: {error.reason}")

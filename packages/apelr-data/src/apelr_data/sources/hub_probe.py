"""Whether the hub answers: asked once and briefly, because the library itself tries for 23 s."""

import http.client
import ssl
import threading
import urllib.error
import urllib.request
from email.message import Message
from typing import IO

from apelr_data.errors import DataError, one_line
from apelr_data.sources.registry import OFFLINE_SOURCES

PROBE_SECONDS = 4.0
HUB_HEADERS = ("X-Repo-Commit", "X-Error-Code", "X-Error-Message", "X-Linked-ETag")
"""What the hub's answers about files carry, and no proxy's."""


def require_hub(source: str, hub_id: str) -> None:
    """Ask for a dataset's card, for `PROBE_SECONDS` at most. `source` is what the message begins with.

    Nothing is asked when the library is set to work offline: then it reads its cache. Raises DataError.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    failures = ["no answer in time"]

    def probe() -> None:
        failure = _failure_to_answer(f"{constants.ENDPOINT}/datasets/{hub_id}/resolve/main/README.md")
        failures[:] = [failure] if failure else []

    # a thread, because looking up a host name has no time limit of its own
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if failures:
        raise unreachable(source, hub_id, failures[0])


def unreachable(source: str, hub_id: str, reason: str) -> DataError:
    """The error that says that the hub is not reached, and what there is without it."""
    from huggingface_hub import constants

    offline = ", ".join(OFFLINE_SOURCES)
    if constants.HF_HUB_OFFLINE:
        return DataError(
            f"{source}: HF_HUB_OFFLINE is set and {hub_id} is not in the cache; use one of {offline}, or unset it"
        )
    return DataError(
        f"{source}: the hub at {constants.ENDPOINT} cannot be reached ({reason}); "
        f"use one of {offline}, or set HF_HUB_OFFLINE=1 to read what is in the cache"
    )


class _UpToTheHub(urllib.request.HTTPRedirectHandler):
    """Follows a server that leads to the hub, but not where the hub itself leads."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if _of_the_hub(headers):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _failure_to_answer(url: str) -> str | None:
    """Why the hub gives no answer; None for any answer of the hub's own, refusals included, but a server failure."""
    opener = urllib.request.build_opener(_UpToTheHub)
    try:
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS) as answer:
            return _failure_in(answer.status, answer.headers)
    except urllib.error.HTTPError as error:
        return _failure_in(error.code, error.headers)
    except urllib.error.URLError as error:
        # the library brings its own certificates, so their failure here says nothing
        return None if isinstance(error.reason, ssl.SSLCertVerificationError) else one_line(error.reason)
    except (OSError, http.client.HTTPException) as error:
        return one_line(error) or type(error).__name__


def _failure_in(status: int, headers: Message) -> str | None:
    if status >= 500 or status == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return f"it answers {status}"
    return None if _of_the_hub(headers) else f"what answers there, with {status}, is not the hub"


def _of_the_hub(headers: Message) -> bool:
    """Whether the hub sent these headers, itself or through a proxy."""
    return headers.get("X-Powered-By", "").startswith("huggingface") or any(name in headers for name in HUB_HEADERS)

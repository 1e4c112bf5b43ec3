"""Whether the hub answers: asked once and briefly, because the library itself tries for 23 s."""

import http.client
import ssl
import threading
import urllib.error
import urllib.request

from apelr_data.errors import DataError, one_line
from apelr_data.sources.registry import OFFLINE_SOURCES

PROBE_SECONDS = 4.0


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
        raise DataError(
            f"{source}: the hub at {constants.ENDPOINT} cannot be reached ({failures[0]}); "
            f"use one of {', '.join(OFFLINE_SOURCES)}, or set HF_HUB_OFFLINE=1 to read what is in the cache"
        )


def _failure_to_answer(url: str) -> str | None:
    """Why a server gives no answer; None for any answer, refusals included, that is no server failure."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}" if error.code >= 500 else None
    except urllib.error.URLError as error:
        # the library brings its own certificates, so their failure here says nothing
        return None if isinstance(error.reason, ssl.SSLCertVerificationError) else one_line(error.reason)
    except (OSError, http.client.HTTPException) as error:
        return one_line(error) or type(error).__name__

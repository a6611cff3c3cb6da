"""Whether the Hugging Face hub can be reached, found out in seconds. Needs no torch.

Libraries retry a hub that does not answer for minutes. Here it is asked once a process; when it
does not answer, the libraries are told to be offline, so that they use what they have cached.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache

PATIENCE = 5.0  # seconds: the client's own timeout, which does not cover looking up a name


@cache
def reachable() -> bool:
    """Whether the hub answers; never asked when HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        with suppress(Exception):  # whatever its transport raises: it has not answered
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            answered.set()  # with whatever status

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not answered.is_set():
        constants.HF_HUB_OFFLINE = True
    return answered.is_set()

"""Whether the Hugging Face hub can be reached, found out in seconds. Needs no torch.

Libraries retry a hub that does not answer for minutes. Here it is asked once a process; when it
does not answer, the libraries are told to be offline, so that they use what they have cached.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from functools import cache

PATIENCE = 5.0  # seconds; looking up a name may hang for longer than a timeout allows


@cache
def reachable() -> bool:
    """Whether the hub answers; never asked when HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                answered.set()
        except urllib.error.HTTPError:  # it spoke
            answered.set()
        except OSError:
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not answered.is_set():
        constants.HF_HUB_OFFLINE = True
    return answered.is_set()

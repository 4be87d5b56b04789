"""Keep the page of all machines up to date while one of them is watched, and never in the way of judging.

The page is gathered from every machine of the customer, one of which may be damaged: whatever fails is said, and tried
again a minute later. It takes time that nobody listens in, so no more than a twentieth of it is spent on the page, but
for an alarm that begins or ends, or a machine that is not covered.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from schemas.settings import Language
from tasks.fleet import refresh_fleet_page
from tasks.store import ObjectStore
from tasks.watch_news import News

REST_S = 60.0
"""Between two writings that nothing hurries."""
_REST_PER_WORK = 20.0


class FleetPage:
    """The page of a customer's machines.

    otherwise: its language where there is no page yet. say: told what went wrong. clock: seconds that only ever go
    forward. The first `keep_up` writes the page: whoever watched before may have been killed before it could.
    """

    def __init__(
        self,
        store: ObjectStore,
        customer: str,
        *,
        otherwise: Language,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._customer, self._otherwise, self._say = store, customer, otherwise, say
        self._clock = clock
        self._is_behind, self._is_urgent, self._rests_until = True, False, clock()

    def note(self, news: News) -> None:
        """Remember what happened, where the page should say so."""
        self._is_behind |= news.is_filed
        self._is_urgent |= news.is_urgent

    def keep_up(self, *, at_once: bool = False) -> None:
        """Write the page anew where it is behind and it is time, or that is asked `at_once`."""
        start = self._clock()
        if not self._is_behind or (start < self._rests_until and not self._is_urgent and not at_once):
            return
        self._is_urgent = False
        self._is_behind = not write_page(self._store, self._customer, otherwise=self._otherwise, say=self._say)
        now = self._clock()
        self._rests_until = now + max(REST_S, _REST_PER_WORK * (now - start))


def write_page(store: ObjectStore, customer: str, *, otherwise: Language, say: Callable[[str], None]) -> bool:
    """Write the page, or say why it cannot be written; whether it was."""
    try:
        refresh_fleet_page(store, customer, otherwise=otherwise)
    except Exception as error:  # whatever another machine's files hold, they must not keep this one from being heard
        say(f"The page of all machines of {customer} could not be written ({type(error).__name__}: {error})")
        return False
    return True

"""Who wants to hear of which account, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from postroad.database.contract import Notice, Topic, Unsubscribe

Callback = Callable[[Notice], None]


class Subscribers:
    """Lives on the loop's thread. A callback may subscribe and unsubscribe while it is called."""

    def __init__(self) -> None:
        self._by_account: dict[int, dict[object, Callback]] = {}

    def subscribe(self, account: int, callback: Callback) -> Unsubscribe:
        key = object()
        self._by_account.setdefault(account, {})[key] = callback

        def unsubscribe() -> None:
            callbacks = self._by_account.get(account)
            if callbacks is not None and callbacks.pop(key, None) is not None and not callbacks:
                del self._by_account[account]

        return unsubscribe

    def send(self, notices: Iterable[Notice]) -> None:
        """Calls those of the notice's account, then those of all accounts."""
        for notice in notices:
            for account in {notice.account, 0}:
                for callback in tuple(self._by_account.get(account, {}).values()):
                    _call(callback, notice)

    def send_everything(self) -> None:
        """After notices may have been lost: each subscriber is told to look at all it watches."""
        for account, callbacks in tuple(self._by_account.items()):
            for topic in Topic:
                for callback in tuple(callbacks.values()):
                    _call(callback, Notice(topic, account))


def _call(callback: Callback, notice: Notice) -> None:
    """A subscriber with a bug shall not keep others from their answers: the loop reports it."""
    try:
        callback(notice)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"a subscriber failed at {notice}", "exception": error}
        )

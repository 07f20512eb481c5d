"""How far a long command has come: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from postroad.app.terminal import neutral

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAME_LETTERS = 40


class Bar:
    """A context. Drawn on stderr, so that what is printed can be piped on."""

    def __init__(self, *, wanted: bool = True, unit: str = "") -> None:
        self._shown = wanted and sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"
        self._unit = unit
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""

    def __enter__(self) -> Bar:
        if self._shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self._unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True, no_color="NO_COLOR" in os.environ),
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """total: -1 when it is not known."""
        if self._progress is None:
            return
        if self._task is None or name != self._name:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._name = name
            text = neutral(name)
            if len(text) > NAME_LETTERS:
                text = text[: NAME_LETTERS - 1] + "…"
            self._task = self._progress.add_task(text, total=None)
        self._progress.update(self._task, completed=done, total=total if total >= 0 else None)

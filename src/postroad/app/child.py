"""A child process with a pipe each way: forked while we are alone, or started anew.

Forking shares everything that was imported, so that workers are there at once; it is only safe
while this process has no thread and no loop. Later ones are started as programs of their own.
Its standard input ends when we die, however that happens.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence


class Child:
    """One child. Belongs to one loop once `attach` was called."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.code: int | None = None
        """Exit code, negative for a signal; None while it runs."""
        self._stdin = stdin
        self._stdout = stdout
        self._ended: asyncio.Event | None = None
        self._reader: asyncio.StreamReader | None = None

    @classmethod
    def fork(cls, body: Callable[[], None], others: Iterable[Child], close: Sequence[int]) -> Child:
        """The child runs `body` and exits.

        others: children forked before; their pipes are not this one's to hold.
        close: descriptors that are not its business.
        """
        assert threading.active_count() == 1, "forking with threads is not safe"
        stdin, our_stdin = os.pipe()
        our_stdout, stdout = os.pipe()
        gc.collect()
        gc.freeze()  # the collector leaves shared pages alone
        pid = os.fork()
        if pid:
            os.close(stdin)
            os.close(stdout)
            return cls(pid, our_stdin, our_stdout)
        code = 1
        try:
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            foreign = [fd for other in others for fd in (other._stdin, other._stdout)]
            for fd in (stdin, stdout, our_stdin, our_stdout, *foreign, *close):
                os.close(fd)
            body()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    @classmethod
    def start(cls, command: Sequence[str], descriptors: Sequence[int]) -> Child:
        """As a program; `descriptors` stay open in it. Raises: OSError."""
        stdin, our_stdin = os.pipe()
        our_stdout, stdout = os.pipe()
        try:
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, pass_fds=descriptors)
        except OSError:
            os.close(our_stdin)
            os.close(our_stdout)
            raise
        finally:
            os.close(stdin)
            os.close(stdout)
        process.returncode = 0  # it is ours to wait for, not the object's
        return cls(process.pid, our_stdin, our_stdout)

    async def attach(self) -> None:
        """Watches it from the running loop on."""
        loop = asyncio.get_running_loop()
        ended = self._ended = asyncio.Event()
        os.set_blocking(self._stdin, False)

        def wait() -> None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                return  # the loop is closed: nobody asks any more

        # first of all, and without waiting: whoever cancels us can still wait for its end
        threading.Thread(target=wait, name=f"child {self.pid}", daemon=True).start()
        self._reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(self._reader)
        await loop.connect_read_pipe(lambda: protocol, os.fdopen(self._stdout, "rb", 0))

    async def wait(self) -> int:
        assert self._ended is not None
        await self._ended.wait()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        assert self.code is not None
        return self.code

    async def read_line(self) -> bytes:
        assert self._reader is not None
        return await self._reader.readline()

    def tell(self, line: bytes) -> None:
        """Some hundred octets, which the pipe takes at once; a child that does not read its
        orders is stuck, and killed."""
        if self._stdin < 0:
            return
        try:
            if os.write(self._stdin, line) == len(line):
                return
        except BrokenPipeError:
            return  # it has gone: whoever waits for it knows
        except BlockingIOError:
            pass
        self.kill()

    def kill(self) -> None:
        if self.code is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

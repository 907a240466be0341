"""A command as it is seen at a terminal."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

from tests.e2e.conftest import ROOT, Service


class AtTerminal:
    """A command before a terminal of 100 columns."""

    def __init__(self, service: Service, *arguments: str) -> None:
        self._screen, side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *arguments],
            env=service.environment | {"COLUMNS": "100", "TERM": "xterm"},
            cwd=ROOT, stdout=side, stderr=side,
        )  # fmt: skip
        os.close(side)
        self._bytes = b""

    @property
    def shown(self) -> str:
        """All that was read, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._bytes.decode(errors="replace"))

    def read(self) -> bool:
        """Waits for more to be shown; False at the end."""
        # How Linux tells that the other side of a terminal is closed.
        with suppress(OSError):
            self._bytes += os.read(self._screen, 1 << 16)
            return True
        os.close(self._screen)
        return False

    def end(self) -> int:
        """The exit code, once all is shown."""
        while self.read():
            pass
        return self.process.wait(timeout=30)

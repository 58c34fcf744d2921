# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL on this machine, of Debian's package postgresql, with a data directory of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class PostgreSQL:
    """Started by start(), stopped by stop(). options: settings of the server."""

    def __init__(self, **options: str) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="falcotune-pg-"))
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.dsn = f"postgresql://falco@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen | None = None

    @staticmethod
    def there() -> bool:
        return bool(PROGRAMS) and importlib.util.find_spec("psycopg") is not None and (
            os.geteuid() != 0 or shutil.which("setpriv") is not None)

    def _command(self, program: str, *words: str) -> list[str]:
        """PostgreSQL does not run as root; Debian's package has a user for it."""
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return [*as_user, str(PROGRAMS[-1] / program), *words]

    def start(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres", "postgres")
            subprocess.run(self._command("initdb", "--auth=trust", "--username=falco", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
                                         f"--pgdata={data}"), check=True, capture_output=True, cwd=self.folder)
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.folder), **self.options}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder.parent / (self.folder.name + ".log")).open("a") as log:
            self.process = subprocess.Popen(self._command("postgres", "-D", str(data), *words), cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while subprocess.run(self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)), check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL does not start: see " + log.name)
            time.sleep(0.1)

    def empty(self) -> None:
        """Forget every audit."""
        import psycopg

        with psycopg.connect(self.dsn) as connection:
            connection.execute("DROP SCHEMA IF EXISTS falcotune CASCADE")

    def halt(self) -> None:
        """As by systemctl stop: sessions are ended."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / (self.folder.name + ".log")).unlink(missing_ok=True)

"""A PostgreSQL server for tests and benchmarks, in a temporary folder, on a port of this machine alone."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PASSWORD = "right"
PATIENCE_S = 60.0
FAST = ("fsync=off", "shared_buffers=16MB", "max_connections=30", "max_wal_size=64MB", "autovacuum=off")


def missing() -> str | None:
    """Why there can be no server here; None where there can."""
    if _program("initdb") is None:
        return "PostgreSQL is not installed; on Debian `apt-get install postgresql`"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
    return None


def _program(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)]))


def _unprivileged() -> pwd.struct_passwd | None:
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names.get("nobody")


def _free_port() -> int:
    """Below those that outgoing connections take: one of them could take it while the server is stopped."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class Server:
    """A server with one user, whose password is asked for; it can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._data, self._log = folder / "data", folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, int] = {}
        if os.geteuid() == 0 and (user := _unprivileged()) is not None:
            self._as = {"user": user.pw_uid, "group": user.pw_gid}
            os.chown(folder, user.pw_uid, user.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ("--username=tests", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync")
        command = [str(_program("initdb")), "-D", str(self._data), "--locale=C", *options]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **self._as)  # type: ignore[call-overload]
        self.port = _free_port()
        self.start()

    def url(self, password: str = PASSWORD, user: str = "tests", database: str = "postgres") -> str:
        """What ``--storage`` takes."""
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        options = [f"-c{option}" for option in FAST]
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._data)]
        process = self._process = subprocess.Popen(  # type: ignore[call-overload]
            [str(_program("postgres")), "-D", str(self._data), *where, *options],
            stdout=self._log.open("a"),
            stderr=subprocess.STDOUT,
            cwd=self._data,
            **self._as,
        )
        import psycopg

        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"no server: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends the server: at once with all its connections, as an administrator's restart does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

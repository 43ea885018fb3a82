"""rsync and scp by way of this machine's own OpenSSH."""

import contextlib
import os
import shutil

from .commands import run


class Ssh:
    """A server of this machine's OpenSSH, with keys of its own, on loopback."""

    def __init__(self, root):
        self._root = root
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key)
        shutil.copy(root / "user.pub", root / "authorized")
        config = root / "sshd_config"
        config.write_text(
            f"HostKey {root}/host\nAuthorizedKeysFile {root}/authorized\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "Subsystem sftp internal-sftp\n"
        )
        # Where its packages did not make it; sshd asks for it.
        with contextlib.suppress(OSError):
            os.makedirs("/run/sshd", exist_ok=True)
        # A server for each connection: no port, and nothing that stays.
        proxy = f"{shutil.which('sshd') or '/usr/sbin/sshd'} -i -f {config}"
        self._options = [
            *("-i", str(root / "user")),
            *("-o", f"ProxyCommand={proxy}", "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        ]
        run("ssh", *self._options, "here", "true")

    def rsync(self, source, target):
        """Copies a folder."""
        wrapper = self._root / "rsh"
        if not wrapper.exists():
            quoted = " ".join(f"'{option}'" for option in self._options)
            wrapper.write_text(f'#!/bin/sh\nexec ssh {quoted} "$@"\n')
            wrapper.chmod(0o755)
        run("rsync", "-a", "-e", wrapper, f"{source}/", f"here:{target}/")

    def scp(self, source, target):
        """Copies a folder's files."""
        target.mkdir(exist_ok=True)
        run("scp", "-q", "-r", *self._options, *source.iterdir(), f"here:{target}/")

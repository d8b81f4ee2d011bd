"""What a session finds in ``/etc``, ``/root``, ``/home`` and ``/var``.

None of it is the host's: a fixed small Debian-like system, so what an agent sees there does not
depend on whose machine it is.
"""

from __future__ import annotations

from pathlib import Path

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}

# name: user id, group id, home; all without a login. Root comes first.
_SERVICES = {
    "daemon": (1, 1, "/usr/sbin"),
    "bin": (2, 2, "/bin"),
    "sys": (3, 3, "/dev"),
    "sync": (4, 65534, "/bin"),
    "games": (5, 60, "/usr/games"),
    "man": (6, 12, "/var/cache/man"),
    "lp": (7, 7, "/var/spool/lpd"),
    "mail": (8, 8, "/var/mail"),
    "news": (9, 9, "/var/spool/news"),
    "uucp": (10, 10, "/var/spool/uucp"),
    "proxy": (13, 13, "/bin"),
    "www-data": (33, 33, "/var/www"),
    "backup": (34, 34, "/var/backups"),
    "list": (38, 38, "/var/list"),
    "irc": (39, 39, "/run/ircd"),
    "_apt": (42, 65534, "/nonexistent"),
    "nobody": (65534, 65534, "/nonexistent"),
}
_GROUPS = (
    "root:0 daemon:1 bin:2 sys:3 adm:4 tty:5 disk:6 lp:7 mail:8 news:9 uucp:10 man:12 proxy:13 "
    "kmem:15 dialout:20 fax:21 voice:22 cdrom:24 floppy:25 tape:26 sudo:27 audio:29 dip:30 "
    "www-data:33 backup:34 operator:37 list:38 irc:39 src:40 shadow:42 utmp:43 video:44 sasl:45 "
    "plugdev:46 staff:50 games:60 users:100 nogroup:65534"
)
_PASSWD = "root:x:0:0:root:/root:/bin/bash\n" + "".join(
    f"{name}:x:{user}:{group}:{name}:{home}:/usr/sbin/nologin\n"
    for name, (user, group, home) in _SERVICES.items()
)
_FILES = {
    "/etc/passwd": _PASSWD,
    "/etc/group": "".join("{}:x:{}:\n".format(*pair.split(":")) for pair in _GROUPS.split()),
    "/etc/hostname": "sandbox\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tsandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "/etc/shells": "/bin/sh\n/bin/bash\n",
    "/etc/environment": "",
    "/etc/profile": f'export PATH="{ENVIRONMENT["PATH"]}"\n',
    "/etc/bash.bashrc": "",
    "/etc/fstab": "",
    "/etc/resolv.conf": "",
    "/etc/issue": "Debian GNU/Linux\n",
    # Whoever is root may become or change anybody.
    "/etc/pam.d/other": "auth sufficient pam_rootok.so\nauth required pam_unix.so\n"
    "account required pam_permit.so\npassword required pam_unix.so\n"
    "session required pam_permit.so\n",
    "/etc/login.defs": "MAIL_DIR /var/mail\nUMASK 022\nHOME_MODE 0755\nPASS_MAX_DAYS 99999\n"
    "PASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\n"
    "GID_MAX 60000\nSYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\n"
    "USERGROUPS_ENAB yes\nENCRYPT_METHOD SHA512\n"
    "ENV_PATH PATH=/usr/local/bin:/usr/bin:/bin\n"
    f"ENV_SUPATH PATH={ENVIRONMENT['PATH']}\n",
    "/etc/default/useradd": "SHELL=/bin/sh\n",
    "/etc/skel/.bashrc": "# ~/.bashrc\n",
    "/etc/skel/.profile": '[ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n',
    "/root/.bashrc": "# ~/.bashrc\n",
    "/root/.profile": '[ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n',
    "/var/log/dpkg.log": "",
}
_SECRET = {
    "/etc/sudoers": "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n",
    "/etc/shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", *_SERVICES)),
    "/etc/gshadow": "".join(f"{pair.split(':')[0]}:*::\n" for pair in _GROUPS.split()),
}
_TOP = "boot etc home media mnt opt run srv sys var"
_VAR = "backups cache lib local log mail opt spool"
_LINKS = {
    "/etc/os-release": "../usr/lib/os-release",
    "/etc/mtab": "/proc/self/mounts",
    "/var/run": "/run",
    "/var/lock": "/run/lock",
}


def system_files(python: str) -> list[tuple[str, int | None, str | None]]:
    """Return path, mode and text of each; no text is a folder, no mode a link to the text.
    ``python`` is the interpreter for a system that has none.
    """
    files: list[tuple[str, int | None, str | None]] = []
    files += [(f"/{name}", 0o755, None) for name in _TOP.split()]
    files += [(f"/var/{name}", 0o755, None) for name in _VAR.split()]
    files += [("/root", 0o700, None)]
    files += [(folder, 0o1777, None) for folder in ("/tmp", "/var/tmp", "/run/lock")]
    files += [(path, 0o644, text) for path, text in _FILES.items()]
    files += [(path, 0o640, text) for path, text in _SECRET.items()]
    files += [(path, None, target) for path, target in _LINKS.items()]
    if not any(Path(folder, "python3").exists() for folder in ("/usr/bin", "/usr/local/bin")):
        files.append(("/usr/local/bin/python3", None, python))
    return files

"""The seccomp filter of what runs in a sandbox."""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence

# By name: number on x86_64, number on aarch64 (None: it has none). What they do either leads out of
# what is bounded (mounts, user namespaces, memory nobody counts) or is shared with the host (keys,
# message queues, watches of files, the kernel's log).
_FORBIDDEN: dict[str, tuple[int, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_CLONE, _CLONE3, _NEW_USER = (56, 220), 435, 0x10000000
_EPERM, _ENOMEM, _EINVAL, _ENOSYS, _EAFNOSUPPORT = 1, 12, 22, 38, 97
# A call passes only if these arguments have one of these values: the caller itself is what it is
# about, or the kind of socket ends with the network namespace (AF_VSOCK and others do not).
_Values = dict[int, tuple[int, ...]]
_OWN: _Values = {0: (0,)}
_FAMILIES: _Values = {0: (1, 2, 10, 16)}
_LIMITED: Sequence[tuple[tuple[int, int], _Values, int]] = (
    ((302, 261), _OWN, _EPERM),  # prlimit64
    ((144, 119), _OWN, _EPERM),  # sched_setscheduler
    ((142, 118), _OWN, _EPERM),  # sched_setparam
    ((314, 274), _OWN, _EPERM),  # sched_setattr
    ((203, 122), _OWN, _EPERM),  # sched_setaffinity
    ((141, 140), {0: (0,), 1: (0,)}, _EPERM),  # setpriority, of a process
    ((251, 30), {0: (1,), 1: (0,)}, _EPERM),  # ioprio_set, of a process
    ((41, 198), _FAMILIES, _EAFNOSUPPORT),  # socket
    ((53, 199), _FAMILIES, _EAFNOSUPPORT),  # socketpair
)
# Timers and files that send a signal of one's choice would wake what was stopped (SIGCONT); a lease
# holds up others that open a file. Libraries use other timers where there are none of these.
_TIMER_CREATE, _FCNTL, _FLOCK = (222, 107), (72, 25), (73, 32)
_FCNTL_FORBIDDEN = (10, 1024, 1026)  # F_SETSIG, F_SETLEASE, F_NOTIFY
# Pages that are shared without a file of the bounded file systems stay when no process has them
# mapped any more, so each mapping that is shared is small; their number is counted.
_MMAP, _SHARED = (9, 222), 1 << 20
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # architecture, column

_LOAD, _EQUAL, _MORE, _AT_LEAST, _HAS, _GIVE = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000
_Line = tuple[int, int, int, int]


def _of(number: int, body: list[_Line]) -> list[_Line]:
    """Return ``body`` for one call only."""
    return [(_EQUAL, 0, len(body), number), *body]


def _only(values: _Values, error: int) -> list[_Line]:
    lines: list[_Line] = []
    for argument, allowed in values.items():
        lines.append((_LOAD, 0, 0, 16 + 8 * argument))
        lines += [(_EQUAL, len(allowed) - k, 0, value) for k, value in enumerate(allowed)]
        lines.append((_GIVE, 0, 0, _DENY | error))
    return [*lines, (_GIVE, 0, 0, _ALLOW)]


def filter_program(locks: bool) -> bytes:
    """Return the filter, 8 bytes an instruction; empty on an unknown machine. It denies with EPERM,
    but ``clone3``, whose flags it cannot see, with ENOSYS: libc takes the filtered ``clone`` then.

    Args:
        locks: Allow ``flock``; without, files of the host may be in reach.
    """
    if platform.machine() not in _MACHINES:
        return b""
    architecture, column = _MACHINES[platform.machine()]
    allow = (_GIVE, 0, 0, _ALLOW)
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_GIVE, 0, 0, _DENY | _EPERM)]
    code += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, 0x40000000), (_GIVE, 0, 0, _DENY | _ENOSYS)]
    body = [(_LOAD, 0, 0, 40), (_HAS, 1, 0, 1), allow, (_LOAD, 0, 0, 28), (_EQUAL, 0, 2, 0)]
    body += [(_LOAD, 0, 0, 24), (_MORE, 0, 1, _SHARED), (_GIVE, 0, 0, _DENY | _ENOMEM), allow]
    code += _of(_MMAP[column], body)
    code += _of(_CLONE3, [(_GIVE, 0, 0, _DENY | _ENOSYS)])
    code += _of(_TIMER_CREATE[column], [(_GIVE, 0, 0, _DENY | _ENOSYS)])
    forbidden = [numbers[column] for numbers in _FORBIDDEN.values()]
    for number in [*forbidden, None if locks else _FLOCK[column]]:
        if number is not None:
            code += _of(number, [(_GIVE, 0, 0, _DENY | _EPERM)])
    for numbers, values, error in _LIMITED:
        code += _of(numbers[column], _only(values, error))
    refused = [(_EQUAL, 0, 1, command) for command in _FCNTL_FORBIDDEN]
    body = [line for one in refused for line in (one, (_GIVE, 0, 0, _DENY | _EINVAL))]
    code += _of(_FCNTL[column], [(_LOAD, 0, 0, 24), *body, allow])
    body = [(_LOAD, 0, 0, 16), (_HAS, 0, 1, _NEW_USER), (_GIVE, 0, 0, _DENY | _EPERM)]
    code += _of(_CLONE[column], [*body, allow])
    code.append(allow)
    return b"".join(struct.pack("HBBI", *line) for line in code)

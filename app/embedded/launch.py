"""Runs before a server: changes account, sets the parent-death signal, then execs the server.

A separate program, run as a file by `python -I -S`, because code between fork and exec of a process
that may have threads is not safe. It imports only the standard library.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_CAPBSET_READ = 23
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2
NO_SETUID_FIXUP = 1 << 2
NO_AMBIENT_RAISE = 1 << 6
CAP_DAC_OVERRIDE = 1
CAP_SETPCAP = 8
CAPABILITY_VERSION_3 = 0x20080522
SAME_ACCOUNT = "-"


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, *values: int) -> int:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return int(ctypes.CDLL(None).prctl(option, *arguments))


def can_carry_traversal() -> bool:
    """Return whether a child that gives up root can keep CAP_DAC_OVERRIDE. Only on Linux."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    bounded = all(_prctl(PR_CAPBSET_READ, cap) == 1 for cap in (CAP_DAC_OVERRIDE, CAP_SETPCAP))
    known = _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_DAC_OVERRIDE) >= 0
    return bounded and known and not _prctl(PR_GET_SECUREBITS) & NO_AMBIENT_RAISE


def _change_account(uid: int, gid: int) -> None:
    keep = can_carry_traversal()
    if keep:
        # Keeps capabilities through setuid, and makes access(2), which initdb calls, honour them.
        _prctl(PR_SET_SECUREBITS, _prctl(PR_GET_SECUREBITS) | NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep:
        _keep_traversal()


def _keep_traversal() -> None:
    """Keep one capability of root, so that directories above DATA_DIR may stay private."""
    bit = 1 << CAP_DAC_OVERRIDE
    header = _CapHeader(CAPABILITY_VERSION_3, 0)
    low_and_high = (_CapData * 2)(_CapData(bit, bit, bit), _CapData(0, 0, 0))
    ctypes.CDLL(None).capset(ctypes.byref(header), ctypes.byref(low_and_high))
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        # After the change of account, which would clear it.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the keeper has ended")


def main() -> None:
    """Run the command. Arguments: the parent's pid, uid and gid (or `-` and `-`), the command."""
    parent, uid, gid, *command = sys.argv[1:]
    os.umask(0o077)
    if uid != SAME_ACCOUNT:
        _change_account(int(uid), int(gid))
    _die_with(int(parent))
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell
    except OSError as error:
        sys.exit(f"account {os.geteuid()} cannot run {command[0]} ({error.strerror})")


if __name__ == "__main__":
    main()

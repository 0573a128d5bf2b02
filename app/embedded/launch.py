"""The last step before a server runs: its own account, an order to die with its keeper, then exec.

A stage of its own, run as a file by `python -I -S`, because code between fork and exec of a
process that may have threads is not safe. It knows nothing but the standard library.
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
    """May a child that gives up root keep CAP_DAC_OVERRIDE? Only on Linux."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    bounded = all(_prctl(PR_CAPBSET_READ, cap) == 1 for cap in (CAP_DAC_OVERRIDE, CAP_SETPCAP))
    known = _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_DAC_OVERRIDE) >= 0
    return bounded and known and not _prctl(PR_GET_SECUREBITS) & NO_AMBIENT_RAISE


def _become(uid: int, gid: int) -> None:
    carry = can_carry_traversal()
    if carry:
        # Keeps capabilities through setuid, and lets access(2), which initdb asks, see them.
        _prctl(PR_SET_SECUREBITS, _prctl(PR_GET_SECUREBITS) | NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if carry:
        _keep_traversal()


def _keep_traversal() -> None:
    """Of root's powers keep one, so that folders above DATA_DIR may stay closed to others."""
    bit = 1 << CAP_DAC_OVERRIDE
    header = _CapHeader(CAPABILITY_VERSION_3, 0)
    low_and_high = (_CapData * 2)(_CapData(bit, bit, bit), _CapData(0, 0, 0))
    ctypes.CDLL(None).capset(ctypes.byref(header), ctypes.byref(low_and_high))
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        # After the change of account: that would clear it.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the keeper is gone")


def main() -> None:
    """Arguments: the parent's pid, uid and gid (or `-` and `-`), the command."""
    parent, uid, gid, *command = sys.argv[1:]
    os.umask(0o077)
    if uid != SAME_ACCOUNT:
        _become(int(uid), int(gid))
    _die_with(int(parent))
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.exit(f"account {os.geteuid()} cannot run {command[0]} ({error.strerror})")


if __name__ == "__main__":
    main()

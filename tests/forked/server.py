"""Forks processes that have imported what they need: `python -m tests.forked.server FD`.

What to import is the first message on the socket, an order each other. An order makes a process,
which does what `python -m` would, and is a child of the process that started this one.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import warnings
from typing import Any

MAX_ORDER_BYTES = 1_000_000
PR_SET_NAME = 15
NAME_CHARACTERS = 15


def orders(door: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each order, and answer with its id; return the order in that process.

    None at the end of the orders.
    """
    while True:
        text, fds, *_ = socket.recv_fds(door, MAX_ORDER_BYTES, 3)
        if not text:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            # Its parent ends at once, so that it becomes a child of the process that sends orders.
            process = os.fork()
            if process == 0:
                for fd in (reading, writing):
                    os.close(fd)
                door.close()
                for number, fd in enumerate(fds):
                    os.dup2(fd, number)
                    os.close(fd)
                return json.loads(text)
            os.write(writing, str(process).encode())
            os._exit(0)
        os.waitpid(between, 0)
        door.send(os.read(reading, 20))
        for fd in (reading, writing, *fds):
            os.close(fd)


def open_streams() -> None:
    """Open the standard streams as Python does at its start: those of the server were others."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        former = getattr(sys, name)
        stream = open(  # noqa: SIM115 - open as long as the process
            number,
            "w" if number else "r",
            encoding=former.encoding,
            errors=former.errors,
            closefd=False,
        )
        stream.reconfigure(line_buffering=name == "stderr")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def execute(order: dict[str, Any]) -> None:
    """Do what `python -m` does, in the folder, with the environment and options of the order."""
    open_streams()
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    environment: dict[str, str] = order["environment"]
    os.environ.clear()  # noqa: TID251 - that of this process becomes the child's
    os.environ.update(environment)  # noqa: TID251 - as above
    paths = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
    sys.path[:1] = [order["cwd"], *paths]
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    if order["warns"]:
        warnings.simplefilter("default")
    module, *words = order["words"]
    name = module.rpartition(".")[2][:NAME_CHARACTERS].encode()
    ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.c_char_p(name))
    sys.argv[1:] = words
    if not hasattr(sys.modules.get(module), "__path__"):  # of a package, __main__ is executed
        sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Import the modules, then fork for each order, until the socket is closed."""
    door = socket.socket(fileno=int(sys.argv[1]))
    for module in json.loads(door.recv(MAX_ORDER_BYTES)):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    order = orders(door)
    if order is not None:
        execute(order)


if __name__ == "__main__":
    main()

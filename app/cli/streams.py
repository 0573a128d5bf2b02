"""The standard streams of a command: one may be closed, a reader may leave or read JSON only."""

import io
import os
import sys
from typing import BinaryIO, TextIO, cast

_NAMES = ("stdin", "stdout", "stderr")  # by their descriptors


class Output(io.TextIOWrapper):
    """A text stream whose reader may leave: the rest is discarded, and the command goes on.

    So its exit code says what it found, however much of that was read.
    """

    reader_left = False

    def write(self, text: str, /) -> int:
        """Write the text, or discard it if nobody reads it."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or discard it if nobody reads it."""
        try:
            super().flush()
        except BrokenPipeError:
            self._discard()
            super().flush()

    def _discard(self) -> None:
        self.reader_left = True
        discard(self)


def prepare() -> None:
    """Open the null device for streams that are closed, and write to the others as Output does."""
    for name in _NAMES:
        if getattr(sys, name) is None:  # before a connection gets the lowest free descriptor
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115 - a descriptor, until the process ends
    for name in _NAMES[1:]:
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not what a test has put in its place
            setattr(sys, name, _output(stream))


def reader_left() -> bool:
    """Return whether nobody reads the standard output any more."""
    return isinstance(sys.stdout, Output) and sys.stdout.reader_left


def print_error(message: str) -> None:
    """Print the error also as JSON, for the program that reads the output, if `--json` is given."""
    if "--json" in sys.argv:
        import json  # noqa: PLC0415 - not imported for `--help`

        from app.core import redact  # noqa: PLC0415 - the same

        sys.stdout.write(json.dumps({"error": redact.text(message)}) + "\n")


def discard(stream: TextIO) -> None:
    """Discard what is still buffered in the stream, and what will be written to it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _output(stream: io.TextIOWrapper) -> Output:
    # `backslashreplace`: what the encoding lacks, as ASCII does most letters, ends no command.
    buffering = {name: getattr(stream, name) for name in ("line_buffering", "write_through")}
    buffer = cast("BinaryIO", stream.buffer)
    return Output(buffer, stream.encoding, "backslashreplace", **buffering)

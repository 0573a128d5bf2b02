"""Requests `/livez` of a port again and again: `python -m scripts.drill.livez_probe PORT`.

Prints the seconds of each, or `failed`. In a process of its own it measures nobody else's work.
"""

import http.client
import sys
import time

PAUSE = 0.05  # seconds between two requests


def main() -> None:
    """Measure until the process is ended."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    while True:
        began = time.monotonic()
        try:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            took = (
                f"{time.monotonic() - began:.4f}" if answer.status == http.client.OK else "failed"
            )
        except (OSError, http.client.HTTPException):
            connection.close()
            took = "failed"
        sys.stdout.write(f"{took}\n")
        sys.stdout.flush()
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()

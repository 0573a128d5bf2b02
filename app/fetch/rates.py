"""How a host is slowed down after it has refused a request, and sped up again.

The rate algorithm is GCRA, in the limiter's script: a host has a theoretical arrival time (`due`),
each request moves it by one interval, and a request may start (burst - 1) intervals before it. A
slowed host has a longer interval and the same tolerance, so its bursts are smaller too.
"""

MAX_SLOWDOWN = 64.0
RESPONSES_PER_EASING = 20
EASING_FACTOR = 0.95
PENALTY_INTERVAL = (
    1.0  # seconds in which several refusals count as one: the requests were concurrent
)

"""How a host is slowed down after it has refused a request, and sped up again.

The rate algorithm is GCRA, in the limiter's script: a host has a theoretical arrival time (`due`),
each request moves it by one interval, and a request may start (burst - 1) intervals before it. A
slowed host has a longer interval and the same tolerance, so its bursts are smaller too.

Good responses shorten the interval, and so does time without a refusal: a host that is slowed down
64 times has too few responses to be sped up by them.
"""

MAX_SLOWDOWN = 64.0
RESPONSES_PER_EASING = 20
EASING_FACTOR = 0.95
HALVING_SECONDS = 120.0  # without a refusal, after which half of a slowdown is taken back
PENALTY_INTERVAL = (
    1.0  # seconds in which several refusals count as one: the requests were concurrent
)

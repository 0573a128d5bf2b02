"""Which Apprise URLs an organisation may use: none makes this machine request another host."""

import json
from typing import Any
from urllib.parse import urlsplit

import apprise
import pytest
import requests
from requests.adapters import HTTPAdapter

from app.core.errors import InvalidValue
from app.orgs import alert_channels
from app.orgs.alert_channels import SERVICES

K, T = "a" * 36, "b" * 32
# A complete URL of each service, and the hosts at which the service itself is.
EXAMPLES = {
    "brevo": (f"brevo://{K}:from@example.com/to@example.com", {"api.brevo.com"}),
    "discord": ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", {"discord.com"}),
    "firehydrant": (f"firehydrant://token/{K}", {"signals.firehydrant.com"}),
    "flock": (f"flock://{'a' * 24}", {"api.flock.com", "api.flock.co"}),
    "gchat": ("gchat://workspace/key/token", {"chat.googleapis.com"}),
    "ifttt": ("ifttt://key@event", {"maker.ifttt.com"}),
    "ilert": (f"ilert://{'a' * 20}", {"api.ilert.com"}),
    "jira": (f"jira://{K}", {"api.atlassian.com"}),
    "opsgenie": (f"opsgenie://{K}", {"api.opsgenie.com", "api.eu.opsgenie.com"}),
    "pagerduty": (f"pagerduty://{T}@{T}", {"events.pagerduty.com", "events.eu.pagerduty.com"}),
    "pbul": (f"pbul://{T}", {"api.pushbullet.com"}),
    "postmark": (f"postmark://{K}:from@example.com/to@example.com", {"api.postmarkapp.com"}),
    "pover": (f"pover://{'u' * 30}@{'a' * 30}", {"api.pushover.net"}),
    "resend": (f"resend://{K}:from@example.com/to@example.com", {"api.resend.com"}),
    "sendgrid": (f"sendgrid://{K}:from@example.com/to@example.com", {"api.sendgrid.com"}),
    "signl4": ("signl4://secret", {"connect.signl4.com"}),
    "slack": (f"slack://A12345678/B12345678/{'c' * 24}", {"hooks.slack.com", "slack.com"}),
    "squadcast": (f"squadcast://{'a' * 20}", {"api.squadcast.com", "api.eu.squadcast.com"}),
    "tgram": ("tgram://123456789:abcdefg_hijklmnop/12315544", {"api.telegram.org"}),
    "twilio": (f"twilio://AC{T}:{T}@15551234567/15557654321", {"api.twilio.com"}),
    "webex": (f"webex://{'a' * 80}", {"api.ciscospark.com", "webexapis.com"}),
    "wxteams": (f"wxteams://{'a' * 80}", {"api.ciscospark.com", "webexapis.com"}),
    "zoom": ("zoom://webhook/token", {"inbots.zoom.us"}),
}
PRIVATE = "127.0.0.1", "169.254.169.254", "localhost:6379", "[::1]", "evil.example"


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[requests.PreparedRequest]:
    """What would be sent to the network, each answered with success."""
    seen: list[requests.PreparedRequest] = []

    def send(
        self: object, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        del self
        assert options["verify"]  # or the file of an environment variable
        seen.append(request)
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 302, request, request.url or ""
        answer.headers["location"] = "http://127.0.0.1:6379/"
        answer._content = json.dumps({"ok": True, "result": []}).encode()  # pyright: ignore[reportPrivateUsage] - as an adapter
        answer._content_consumed = True  # pyright: ignore[reportPrivateUsage] - as above
        return answer

    monkeypatch.setattr(HTTPAdapter, "send", send)
    monkeypatch.setattr(apprise.URLBase, "throttle", _at_once)
    return seen


def _at_once(*_: object, **__: object) -> None:
    """Instead of Apprise's pauses between requests."""


def variants(url: str) -> list[str]:
    """The URL, and what could make its plugin request another host."""
    scheme, _, rest = url.partition("://")
    first, _, path = rest.rpartition("/") if "/" in rest else (rest, "", "")
    found = [url, url.upper(), url.replace(scheme, scheme.upper(), 1)]
    for host in PRIVATE:
        found += [
            f"{scheme}://{host}/{rest}",
            f"{scheme}://{rest}@{host}",
            f"{scheme}://{rest}@{host}/",
            f"{scheme}://{first}@{host}/{path}",
            f"{scheme}://{host}%2F{rest}",
            f"{scheme}://{host}%23/{rest}",
            f"{scheme}://{host}%3F/{rest}",
            f"{scheme}://{rest}/../../@{host}",
            f"{scheme}://{rest}/%2e%2e/%2e%2e/%40{host}/",
            f"{scheme}://{rest}?region={host}",
            f"{scheme}://{rest}?mode={host}%2F",
            f"{scheme}://{rest}?to=http:%2F%2F{host}%2F",
            f"{scheme}://{rest}?token={host}%2Fx%23&source={host}&from={host}",
        ]
    return found


def test_every_service_has_its_example() -> None:
    assert set(EXAMPLES) == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_requested_at_its_own_hosts_only(
    service: str, requested: list[requests.PreparedRequest]
) -> None:
    url, hosts = EXAMPLES[service]
    used = 0
    for variant in variants(url):
        try:
            alert_channels.check_url(variant)
        except InvalidValue:
            assert variant != url
            continue
        before = len(requested)
        app: Any = apprise.Apprise()
        assert app.add(f"{variant}{'&' if '?' in variant else '?'}redirect=no")
        app.notify(title="t", body="b", notify_type="failure", body_format="text")
        used += len(requested) > before

    asked = [urlsplit(request.url or "") for request in requested]
    assert used
    assert {parts.scheme for parts in asked} == {"https"}
    assert {parts.netloc for parts in asked} <= hosts


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:6379/",
        "jsons://example.com/",
        "xml://example.com",
        "form://example.com",
        "mailto://user:pass@example.com",
        "syslog://",
        "dbus://",
        "gnome://",
        "ntfy://127.0.0.1/topic",
        "matrix://127.0.0.1",
        "https://example.com/in",
        "apprise://127.0.0.1/key",
        "python://x",
        "slack",
        "slack://",
        f"{EXAMPLES['slack'][0]},json://127.0.0.1:6379/",
        f"{EXAMPLES['slack'][0]} json://127.0.0.1:6379/",
        f"{EXAMPLES['slack'][0]}\njson://127.0.0.1:6379/",
        f"{EXAMPLES['slack'][0]}?template=/etc/passwd",
        f"{EXAMPLES['slack'][0]}?template=http:%2F%2F127.0.0.1%2F",
        f"{EXAMPLES['discord'][0]}?:template=/etc/passwd",
        f"{EXAMPLES['discord'][0]}?a=1;template=/etc/passwd",
        f"{EXAMPLES['discord'][0]}?TEMPLATE=/etc/passwd",
        f"{EXAMPLES['discord'][0]}?%74emplate=/etc/passwd",
        f"{EXAMPLES['slack'][0]}?verify=no",
        f"{EXAMPLES['slack'][0]}?redirect=yes",
        f"{EXAMPLES['slack'][0]}?rto=9999",
        f"{EXAMPLES['slack'][0]}?+Host=internal",
        f"{EXAMPLES['slack'][0]}?store=yes",
        f"{EXAMPLES['slack'][0]}?retry=1000&wait=1000",
        f"{EXAMPLES['slack'][0]}?to={'x' * 2000}",
    ],
)
def test_what_could_reach_elsewhere_or_read_files_is_refused_without_the_url(url: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        alert_channels.check_url(url)

    assert refused.value.field == "url"
    assert "c" * 24 not in str(refused.value)
    assert "passwd" not in str(refused.value)

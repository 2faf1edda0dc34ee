"""Notifications through apprise, to real HTTP servers on loopback that take, refuse, redirect or hang."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ridgepole import Pipeline, process, rundir
from ridgepole.permanences import BaseLoggerManager
from ridgepole.watch.alerts import new_alert
from ridgepole.watch.notify import Notifier, kinds_of, without_secrets


class Server(ThreadingHTTPServer):
    """Keeps the bodies that it was sent, and answers as its paths say."""

    daemon_threads = True

    def __init__(self):
        self.taken, self.elsewhere, self.release = [], "", threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        self.place = f"127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.strip("/").partition("?")[0]
        self.server.taken.append((path, body))
        if path == "hangs":
            self.server.release.wait(60)
        code = {"moved": 307, "refuses": 403}.get(path, 200)
        self.send_response(code)
        if code == 307:
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = [Server(), Server()]
    for server in made:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    for server in made:
        server.release.set()
        server.shutdown()
        server.server_close()


def test_each_address_is_told_of_by_itself(servers):
    """One that takes it, one that refuses, one that leads elsewhere, one that hangs, one that is nothing."""
    first, second = servers
    first.elsewhere = f"http://{second.place}/caught"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    urls = [
        f"json://{first.place}/hangs?rto=0.5",
        f"json://user:swordfish@{first.place}/refuses",
        f"json://{first.place}/moved",
        f"json://{nobody}/listens",
        "nothing://swordfish",
        f"json://{first.place}/takes",
    ]
    said = []
    notifier = Notifier(urls, kinds_of(["stalled"]), "run-1", said.append, deadline=100)
    notifier.add(new_alert("nan", "warning", "not asked for"))
    notifier.add(new_alert("stall", "error", "no step for 60 s", "the details", step=7))
    notifier.add(new_alert("stall", "error", "no step for 60 s", "once more"))
    notifier.drain()
    assert [path for path, _ in first.taken] == ["hangs", "refuses", "moved", "takes"]
    assert second.taken == [], "a redirect is not followed"
    message = first.taken[-1][1]
    assert message["title"] == "run-1: no step for 60 s"
    assert message["message"].startswith("no step for 60 s (step 7, rank 0)\nthe details\nrun run-1 on ")
    assert message["type"] == "failure"
    assert said == [f"a notification was not sent: json://{first.place} did not take it"] * 3 + [
        f"a notification was not sent: json://{nobody} did not take it",
        "a notification was not sent: nothing://… did not take it",
    ]


def test_a_deadline_ends_what_hangs(servers):
    said = []
    notifier = Notifier([f"json://{servers[0].place}/hangs?rto=60"], ["alert"], "run-1", said.append, deadline=0.2)
    notifier.add(new_alert("alert", "info", "hello"))
    process = notifier._process
    notifier.drain()
    assert process.returncode == -9
    assert said == ["a notification was not sent within 0.2 s"]


def test_a_flood_becomes_a_few_messages(servers):
    """Alerts that come while one is sent become one message; and no more than so many go out in an hour."""
    notifier = Notifier([f"json://{servers[0].place}/takes"], ["alert"], "run-1", lambda _line: None, deadline=100)
    for number in range(200):
        notifier.add(new_alert("alert", "info", f"number {number}"))
    notifier._sent.extend([notifier._sent[0]] * 30)
    notifier.drain()
    assert len(servers[0].taken) == 1
    assert notifier._dropped == 199


@process
def fails(logger: BaseLoggerManager):
    logger.alert("begins", "the word is swordfish")
    raise ValueError("no swordfish here")


def test_a_run_tells_how_it_ended_without_secrets(servers, tmp_path, monkeypatch):
    first, _ = servers
    monkeypatch.setenv("SOME_TOKEN", "swordfish")
    address = f"json://{first.place}/swordfish"
    (tmp_path / "told.toml").write_text(
        f'[pipeline]\nname = "${{env:SOME_TOKEN}}"\nprogress = false\n[notify]\nurls = ["{address}"]\n', "utf-8"
    )
    pipeline = Pipeline.from_toml(tmp_path / "told.toml").process("fails", fails)
    with pytest.raises(ValueError, match="no swordfish"):
        pipeline.run(tmp_path / "runs")
    (run,) = [path for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")]
    kept = [json.loads(line) for line in (run / rundir.ALERTS).read_text("utf-8").splitlines()]
    assert [(alert["kind"], alert["level"]) for alert in kept] == [("alert", "info"), ("failed", "error")]
    assert kept[1]["title"] == "the run has ended: failed"
    assert kept[1]["text"] == "ValueError: no *** here"
    text = "\n".join(body["message"] for _, body in first.taken)
    assert "the run has ended: failed" in text
    assert "swordfish" not in text
    assert "begins" in text


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ({"urls": ["swordfish"]}, "urls[0] is not an address such as ntfy://host/topic"),
        ({"urls": "json://swordfish"}, "notify.urls must be a list of texts"),
        ({}, "notify lacks the key 'urls'"),
        ({"urls": ["json://x"], "on": ["finish"]}, "notify.on.0 should be 'finished'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_without_its_secret(notify, words):
    problems = Pipeline("x", notify=notify).process("fails", fails).check()
    told = [str(problem.message) for problem in problems]
    assert any(words in line for line in told), told
    assert not any("swordfish" in line for line in told)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("json://user:password@host.org:80/token?key=1", "json://host.org:80"),
        ("slack://TokenA/TokenB/TokenC", "slack://…"),
        ("mailto://me:word@gmail.com", "mailto://gmail.com"),
    ],
)
def test_what_is_shown_of_an_address(url, shown):
    assert without_secrets(url) == shown

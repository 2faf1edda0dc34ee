"""The server of the page: who may ask, what it answers, what it tells as it happens, how it ends."""

import fcntl
import gzip
import json
import os
import shutil
import signal
import socket
import stat
import struct

import numpy as np
import pytest
from page_client import Events, PageClient

from ridgepole import Pipeline, process
from ridgepole.labels import read_labels
from ridgepole.metrics.codec import encode_line
from ridgepole.permanences import BaseLoggerManager


@process
def train(logger: BaseLoggerManager, lr: float = 0.1):
    for step in range(20):
        logger.log_metrics({"loss": lr / (step + 1), "val": {"acc": 1 - lr}})
    logger.log_text("a text", "x" * 10)
    logger.log_figure("a picture", np.zeros((4, 4)))
    logger.info("said something")


def make_runs(root, count=3):
    for number in range(count):
        pipeline = Pipeline("served", progress=False, seed=1, checkpoint=False)
        pipeline.process("train", train, lr=0.25 * (number + 1)).run(root, name=f"run{number}")


@pytest.fixture(scope="module")
def served(command_server, tmp_path_factory):
    """A server that the tests of this page only read from, and its runs."""
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder / "runs")
    running = command_server.start("view", "--port", "0", cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))
    client = PageClient(running.until("token=").stdout)
    client.runs = sorted((folder / "runs").glob("2*"), reverse=True)
    yield client
    running.send(signal.SIGINT)
    assert running.wait() == 0
    assert "Traceback" not in running.stderr


def test_what_was_watched_is_answered(client):
    run = client.runs[0]
    lines = [{"header": {"node": "n1", "rank": 0}}]
    lines += [{"time": 10.0 * n, "rank": 0, "values": {"cpu_percent": n, "note": "text"}} for n in range(1201)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "system.jsonl").write_text(text + '{"time": 3, "values": {"torn')
    (run / "system-rank-10.jsonl").write_text('{"time": 1.5, "rank": 10, "values": {"cpu_percent": 7}}\n[]\n')
    (run / "console").mkdir()
    (run / "console" / "rank-0.log").write_text("printed\n")
    (run / "console" / "secret.txt").write_text("no log\n")
    (key, *_) = client.get("/api/runs").json()["keys"]
    first, tenth = client.get(f"/api/runs/{key}/system").json()["ranks"]
    series = first["series"]
    assert (first["rank"], first["header"]["node"], list(series)) == (0, "n1", ["cpu_percent"])
    assert len(series["cpu_percent"]["time"]) == len(series["cpu_percent"]["value"]) == 401
    assert (series["cpu_percent"]["value"][:2], series["cpu_percent"]["time"][0]) == ([1.0, 4.0], 10.0)
    assert (tenth["rank"], tenth["series"]["cpu_percent"]) == (10, {"time": [1.5], "value": [7.0]})
    answer = client.get(f"/api/runs/{key}").json()
    assert answer["logs"] == ["run.log", "console/rank-0.log"]
    assert (answer["verdict"], answer["step_time"], answer["alerts"]) == ("", [], [])
    assert client.get(f"/api/runs/{key}/log?file=console/rank-0.log").json()["text"] == "printed\n"
    for file in ("console/secret.txt", "console/../run.json", "console/rank-1.log"):
        assert client.get(f"/api/runs/{key}/log?file={file}").status == 404
    for path in (run / "system.jsonl", run / "system-rank-10.jsonl"):
        path.unlink()
    shutil.rmtree(run / "console")


@pytest.fixture
def client(served):
    return served


@pytest.fixture
def keys(client):
    return client.get("/api/runs").json()["keys"]


@pytest.fixture
def start(command_server, tmp_path):
    """Starts a server over `runs` of the test's directory."""
    started = []

    def call(*options, runs=1):
        make_runs(tmp_path / "runs", runs)
        running = command_server.start("view", *options, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        started.append(running)
        return running, PageClient(running.until("on the socket" if "--socket" in options else "token=").stdout)

    yield call
    for each in started:
        each.send(signal.SIGKILL)
        each.wait()


# --- who may ask


def test_the_token_becomes_a_cookie_that_scripts_cannot_read(client):
    attributes = client.set_cookie.split("; ")
    assert attributes[0].startswith("ridgepole-")
    assert attributes[1:] == ["HttpOnly", "SameSite=Strict", "Path=/"]


@pytest.mark.parametrize("cookie", ["", "ridgepole-0=x", "{name}=", "{name}=wrong", "\xff=;;,=\x01"])
def test_nothing_is_answered_without_the_token(cookie, client):
    name = client.cookie.partition("=")[0]
    for path in ("/", "/assets/app.js", "/api/info", "/api/runs", "/api/events", "/nothing"):
        answer = client.get(path, cookie=cookie.replace("{name}", name))
        assert answer.status == 401, path
        assert "ridgepole view" in answer.json()["error"]["message"]


def test_the_token_in_the_query_is_enough(client):
    assert client.get(f"/api/info?{client.url.query}", cookie="").status == 200
    assert client.get(f"/api/info?{client.url.query}x", cookie="").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "", "[::1", "a/b"]
)
def test_another_host_is_refused(host, client):
    assert client.get("/api/info", Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80", "[::1]"])
def test_names_of_the_loopback_are_allowed_with_any_port(host, client):
    assert client.get("/api/info", Host=host).status == 200


def test_a_post_needs_the_header_and_a_change_needs_the_origin(client, keys):
    change = {"runs": keys[:1], "name": "changed"}
    chart = {"metric": "loss", "runs": keys}
    assert client.post("/api/chart", chart, X_Ridgepole="2").status == 403
    assert client.post("/api/chart", chart, Content_Type="text/plain").status == 403
    assert client.post("/api/chart", chart, Origin="http://evil.example").status == 200, "it changes nothing"
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"{client.origin}0",
        "http://localhost:1",
        "http://[",
        "ftp://localhost",
    ):
        assert client.post("/api/labels", change, Origin=origin).status == 403
    assert client.post("/api/labels", change, cookie="").status == 401
    assert client.ask("DELETE", "/api/runs", None, None, {}).status == 405
    assert read_labels(client.runs[0]).name == "run2"


def test_every_answer_has_the_headers_that_keep_it_in(client):
    for answer in (client.get("/"), client.get("/api/info"), client.get("/none"), client.get("/api/info", cookie="")):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


# --- what it answers


def test_info_and_the_page(client):
    info = client.get("/api/info").json()
    assert (info["format"], info["live"], info["roots"][0]["runs"]) == (1, True, 3)
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/assets/nothing.js").status == 404
    assert client.get("/assets/..%2Fserve.py").status == 404


def test_the_table_of_runs(client, keys):
    table = client.get("/api/runs").json()
    assert table["fields"]["id"] == [path.name for path in client.runs]
    assert table["fields"]["name"] == ["run2", "run1", "run0"]
    columns = {column["label"]: column for column in table["columns"]}
    assert columns["lr"]["values"] == [0.75, 0.5, 0.25]
    assert (columns["lr"]["kind"], columns["lr"]["type"], columns["lr"]["varies"]) == ("config", "number", True)
    assert (columns["loss"]["goal"], columns["loss"]["best"], columns["loss"]["last_step"]) == (
        "min",
        [0.0375, 0.025, 0.0125],
        [19] * 3,
    )
    assert columns["val/acc"]["values"] == [0.25, 0.5, 0.75]
    found = client.get("/api/runs?filter=lr%3E0.3+and+name+~+%22run*%22&sort=lr&columns=none").json()
    assert (found["keys"], found["columns"], found["total"]) == ([keys[1], keys[0]], [], 3)
    assert client.get("/api/runs?archived=only").json()["keys"] == []
    wrong = client.get("/api/runs?filter=lr+%3E")
    assert (wrong.status, wrong.json()["error"]["at"]) == (400, [4, 5])
    assert client.get("/api/runs?sort=none").json()["error"]["message"] == "no run has anything called 'none'"
    assert client.get("/api/runs?archived=x").status == 400


def test_json_is_compressed_and_has_a_tag(client):
    answer = client.get("/api/runs", Accept_Encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body)) == client.get("/api/runs").json()
    again = client.get("/api/runs", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_one_run(client, keys):
    found = client.get(f"/api/runs/{keys[0]}").json()
    assert (found["id"], found["status"], found["labels"]["name"]) == (client.runs[0].name, "finished", "run2")
    assert found["config"]["processes"]["train"]["params"]["lr"] == 0.75
    assert found["summary"]["val/acc"]["last"] == 0.25
    assert (found["logs"], found["media"]) == (["run.log"], 2)
    assert [each["name"] for each in found["processes"]] == ["train"]
    assert client.get("/api/runs/000000000000").status == 404


def test_a_log_is_followed(client, keys):
    size = (client.runs[0] / "run.log").stat().st_size
    found = client.get(f"/api/runs/{keys[0]}/log").json()
    assert (found["start"], found["next"], found["size"]) == (0, size, size)
    assert "said something" in found["text"]
    assert client.get(f"/api/runs/{keys[0]}/log?offset={size}").json()["text"] == ""
    assert client.get(f"/api/runs/{keys[0]}/log?offset=-5").json()["text"] in ("", found["text"])
    for query in ("file=run.json", "file=../x", "offset=x"):
        assert client.get(f"/api/runs/{keys[0]}/log?{query}").status in (400, 404)
    assert client.get(f"/api/runs/{keys[0]}/diff").status in (200, 404)


def test_media_and_their_files(client, keys):
    found = client.get(f"/api/runs/{keys[0]}/media").json()
    kinds = {item["kind"]: item for item in found["items"]}
    assert kinds["text"]["text"] == "x" * 10
    picture = client.get(f"/api/runs/{keys[0]}/file/{kinds['figure']['file']}")
    assert (picture.status, picture.headers["content-type"], picture.body[:4]) == (200, "image/png", b"\x89PNG")
    assert client.get(f"/api/runs/{keys[0]}/media?since={found['next']}").json()["items"] == []
    assert [item["name"] for item in client.get(f"/api/runs/{keys[0]}/media?name=a+text").json()["items"]] == ["a text"]
    for path in (
        "run.json",
        "config.toml",
        "figures/../run.json",
        "figures/%2e%2e/run.json",
        "figures//x",
        "figures",
        "/etc/passwd",
    ):
        assert client.get(f"/api/runs/{keys[0]}/file/{path}").status == 404, path


def test_charts(client, keys):
    query = {"metric": "loss", "runs": [*keys, "gone"]}
    chart = client.post("/api/chart", query)
    assert chart.headers["content-type"] == "application/octet-stream"
    (length,) = struct.unpack("<I", chart.body[4:8])
    header = json.loads(chart.body[8 : 8 + length])
    assert [each["points"] for each in header["series"]] == [20, 20, 20, 0]
    y = header["series"][0]["y"]
    values = struct.unpack_from(f"<{y['length']}f", chart.body, 8 + length + y["at"])
    assert values == pytest.approx([0.75 / (step + 1) for step in range(20)])
    assert client.post("/api/chart", query, If_None_Match=chart.headers["etag"]).status == 304
    assert client.post("/api/chart", {"metric": "loss"}).json()["error"]["message"] == "'runs' must be a list of keys"
    assert client.post("/api/chart", b"{").status == 400
    assert client.post("/api/chart", b" " * (5 << 20)).status == 413


def test_sweeps(client):
    assert client.get("/api/sweeps").json() == {"sweeps": []}
    assert client.get("/api/sweeps/none").status == 404
    assert client.get("/api/sweeps/none/importances").status == 404


# --- what changes


def test_labels_are_changed_and_told(start, tmp_path):
    _, client = start(runs=2)
    keys = client.get("/api/runs").json()["keys"]
    events = Events(client)
    identity, event, _ = events.next()
    assert event == "reset"
    change = {"runs": keys, "add_tags": ["a", "b"], "remove_tags": ["b"], "note": "n"}
    labels = client.post("/api/labels", change).json()["labels"]
    assert labels[keys[0]] == {"name": "run1", "tags": ["a"], "note": "n", "archived": False}
    _, event, data = events.next()
    assert (event, data["list"], set(data["runs"])) == ("change", True, set(keys))
    events.close()
    assert client.get(f"/api/changes?since={identity}").json()["data"]["runs"] == data["runs"]
    assert client.post("/api/labels", {"runs": keys[:1], "archived": True, "tags": ["z"]}).status == 200
    assert client.get("/api/runs").json()["keys"] == keys[1:]
    stored = read_labels(next((tmp_path / "runs").glob("*")).parent / client.get(f"/api/runs/{keys[0]}").json()["id"])
    assert (stored.archived, stored.tags) == (True, ("z",))
    for wrong in ({"name": "a\nb"}, {"tags": "a"}, {"colour": 1}, {"archived": 1}, {"name": 3}):
        assert client.post("/api/labels", {"runs": keys} | wrong).status == 400


def test_a_run_that_grows_appears_and_crashes_is_told(start, tmp_path):
    _, client = start()
    path = next((tmp_path / "runs").glob("2*"))
    new = tmp_path / "runs" / "29990101-000000-00000000"
    new.mkdir()
    owner = os.open(new / "owner.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(owner, fcntl.LOCK_EX)
    (new / "run.json").write_text(path.joinpath("run.json").read_text().replace('"finished"', '"running"'))
    events = Events(client)
    assert events.next()[1] == "reset"
    while not (change := events.next()[2]).get("list"):
        pass
    table = client.get("/api/runs").json()
    assert table["fields"]["status"] == ["running", "finished"]
    with (new / "metrics.jsonl").open("ab") as file:
        file.write(encode_line(0, 1.0, 0, {"loss": 0.5}))
    while table["keys"][0] not in change["runs"]:
        change = events.next()[2]
    chart = client.post("/api/chart", {"metric": "loss", "runs": table["keys"][:1]})
    assert b'"points":1,' in chart.body
    os.close(owner)
    while client.get("/api/runs").json()["fields"]["status"][0] != "crashed":
        events.next()
    (new / "run.json").unlink()
    (new / "owner.lock").unlink()
    while len(client.get("/api/runs").json()["keys"]) > 1:
        events.next()
    assert client.post("/api/chart", {"metric": "loss", "runs": table["keys"][:1]}).status == 200
    events.close()


def test_links_out_of_the_root_are_not_followed(start, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "figures").mkdir()
    (secret / "figures" / "a.png").write_text("secret")
    (secret / "run.json").write_text('{"status": "finished"}')
    _, client = start()
    path = next((tmp_path / "runs").glob("2*"))
    (tmp_path / "runs" / "linked").symlink_to(secret)
    (path / "figures" / "link.png").symlink_to(secret / "figures" / "a.png")
    (path / "texts").symlink_to(secret / "figures")
    (path / "console.log").symlink_to(secret / "run.json")
    bad = tmp_path / "runs" / "bad"
    bad.mkdir()
    (bad / "run.json").symlink_to(secret / "run.json")
    (key,) = client.get("/api/runs").json()["keys"]
    for file in ("figures/link.png", "texts/a.png"):
        assert client.get(f"/api/runs/{key}/file/{file}").status == 404
    assert client.get(f"/api/runs/{key}/log?file=console.log").status == 404


# --- how it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_an_open_stream(number, start):
    running, client = start()
    events = Events(client)
    events.next()
    running.send(number)
    assert events.next()[1] == "end"
    events.close()
    assert running.wait() == 0
    assert "Traceback" not in running.stderr


def test_a_socket_is_private_and_gone_at_the_end(start):
    running, client = start("--socket")
    assert client.get("/api/info").status == 200
    assert stat.S_IMODE(client.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(client.socket.parent.stat().st_mode) == 0o700
    running.send(signal.SIGTERM)
    assert running.wait() == 0
    assert not client.socket.parent.exists()


def test_a_port_that_is_taken_is_said(ridgepole, tmp_path):
    (tmp_path / "runs").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = ridgepole("view", "--port", port)
    assert (done.returncode, done.stderr) == (2, f"error: port {port} is in use; name another with --port, or none\n")
    missing = ridgepole("view", "none")
    assert (missing.returncode, missing.stderr) == (2, "error: none is not a directory of runs\n")
    assert "expected a port from 0 to 65535" in ridgepole("view", "--port", "x").stderr


def test_two_servers_share_an_index_and_a_port_is_found(start, command_server, tmp_path):
    _, first = start(runs=2)
    second = command_server.start("view", "runs", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    try:
        other = PageClient(second.until("token=").stdout)
        assert other.url.port != first.url.port
        assert other.get("/api/runs").json()["keys"] == first.get("/api/runs").json()["keys"]
        assert other.get("/api/info", cookie=first.cookie).status == 401
    finally:
        second.send(signal.SIGKILL)
        second.wait()


def test_a_name_of_a_proxy_is_allowed(start):
    _, client = start("--allow-host", "hub.example")
    assert client.get("/api/info", Host="hub.example").status == 200
    (key,) = client.get("/api/runs").json()["keys"]
    change = {"runs": [key], "name": "by proxy"}
    assert client.post("/api/labels", change, Origin="https://hub.example").status == 200
    assert client.post("/api/labels", change, Origin="https://other.example").status == 403

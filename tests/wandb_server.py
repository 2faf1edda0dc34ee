"""A server on loopback that answers W&B's client as far as runs and sweeps need it."""

import itertools
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789abcdef0123456789abcdef01234567"


def forget_account(monkeypatch, home):
    """Takes away the account, the settings and the home of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


class Server(ThreadingHTTPServer):
    """As much of a W&B server as the client needs. `mode` may change: `ok`, `hang`, or a status such as `500`."""

    daemon_threads = True

    @property
    def handler(self):
        return _Handler

    def __init__(self, mode):
        super().__init__(("127.0.0.1", 0), self.handler)
        self.mode = mode
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.released = threading.Event()
        self.paths, self.runs, self.streamed = [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """The client hangs up in the middle when it is killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.paths.append(self.path)
        if self.server.mode == "hang":
            self.server.released.wait(60)
            self.close_connection = True
            return
        status, answer = 200, {"error": f"nobody knows {KEY}"}  # and the client shows such answers
        if self.server.mode.isdigit():
            status = int(self.server.mode)
        else:
            answer = self.answer(body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST  # noqa: N815 - the stdlib's names

    def answer(self, body):
        if self.path.endswith("file_stream"):
            files = json.loads(body).get("files") or {}
            lines = files.get("wandb-history.jsonl", {}).get("content", [])
            self.server.streamed += [json.loads(line) for line in lines]
        if self.path != "/graphql":
            return {}
        query = json.loads(body)
        given = query["variables"]
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "tester"}}
        if "RunResumeStatus" in query["query"]:
            known = given["name"] in self.server.runs
            bucket = {"id": "b", "name": given["name"], "summaryMetrics": "{}", "displayName": "x", "logLineCount": 0,
                      "historyLineCount": 2, "eventsLineCount": 0, "historyTail": '["{\\"_step\\": 1}"]',
                      "eventsTail": "[]", "config": "{}", "tags": [], "notes": "",
                      "wandbConfig": '{"t": 1}'}  # fmt: skip
            return {"data": {"model": project | {"bucket": bucket if known else None}}}
        if "upsertBucket" in query["query"]:
            self.server.runs.append(given.get("name"))
            bucket = {"id": "b", "name": given.get("name"), "displayName": given.get("displayName"), "description": "",
                      "config": None, "sweepName": None, "project": project, "historyLineCount": 0}  # fmt: skip
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "createRunFiles" in query["query"]:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload"} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {}}

    def log_message(self, *args):
        """Says nothing."""


class SweepServer(Server):
    """One that chooses the trials of a grid sweep, too, hears of the runs, and can ask them to stop.

    `sweeps` are the definitions it was given; `given` has the point of each run; `rows` are what the runs logged,
    `exits` their exit codes; `stop` names those that are to stop, and with `stops_all` all are.
    """

    @property
    def handler(self):
        return _SweepHandler

    def __init__(self, mode="ok"):
        self.lock = threading.Lock()
        self.sweeps, self.given, self.rows, self.exits = [], {}, {}, {}
        self.stop, self.stopped, self.agents, self.refuses, self.stops_all = set(), set(), 0, "", False
        super().__init__(mode)

    def command(self, agent, running):
        """What an agent is told: the next point of the grid, a run that is to stop, or that there is nothing more."""
        import yaml

        with self.lock:
            stop = [run for run in running if run in self.stop - self.stopped]
            if stop:
                self.stopped.add(stop[0])
                return [{"type": "stop", "run_id": stop[0]}]
            if running:
                return []
            config = yaml.safe_load(self.sweeps[-1])
            points = list(_points(config["parameters"]))
            if len(self.given) >= len(points):
                return [{"type": "exit"}]
            run = f"run{len(self.given):03d}"
            self.given[run] = points[len(self.given)]
            return [{"type": "run", "run_id": run, "args": {key: {"value": x} for key, x in self.given[run].items()}}]


def _points(parameters):
    """Every combination, nested as the file nests them."""
    names = list(parameters)
    choices = []
    for name in names:
        table = parameters[name]
        inner = table.get("parameters")
        choices.append(
            list(_points(inner)) if inner else table["values"] if "values" in table else [table["value"]]
            if "value" in table else range(table["min"], table["max"] + 1)
        )  # fmt: skip
    for point in itertools.product(*choices):
        yield dict(zip(names, point, strict=True))


class _SweepHandler(_Handler):
    server: SweepServer

    def answer(self, body):
        server = self.server
        if self.path.endswith("file_stream"):
            run, told = self.path.split("/")[-2], json.loads(body)
            for line in (told.get("files") or {}).get("wandb-history.jsonl", {}).get("content", []):
                server.rows.setdefault(run, []).append(json.loads(line))
            if told.get("complete"):
                server.exits[run] = told.get("exitcode")
            return {"stopped": server.stops_all or run in server.stop}
        if self.path != "/graphql":
            return {}
        query = json.loads(body)
        text, given = query["query"], query.get("variables") or {}
        name = given.get("projectName") or "uncategorized"
        project = {"id": "p", "name": name, "entity": {"id": "e", "name": "tester"}}
        if "Viewer" in text:
            viewer = {"id": "v", "entity": "tester", "username": "tester", "name": "t", "email": "", "admin": False}
            return {"data": {"viewer": viewer | {"flags": "{}", "teams": {"edges": []}}}}
        if "ServerFeatures" in text:
            return {"data": {"serverInfo": {"features": []}}}
        if "upsertSweep" in text:
            if server.refuses:
                return {"errors": [{"message": server.refuses}], "data": None}
            server.sweeps.append(given["config"])
            sweep = {"name": f"sweep{len(server.sweeps)}", "project": project}
            return {"data": {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}}
        if "createAgent" in text:
            server.agents += 1
            return {"data": {"createAgent": {"agent": {"id": f"agent{server.agents}"}}}}
        if "agentHeartbeat" in text:
            commands = server.command(given["id"], json.loads(given["runState"]))
            agent = {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}
            return {"data": {"agentHeartbeat": agent}}
        return super().answer(body)

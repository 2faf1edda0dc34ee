"""A model of ranks that agree on a step: every order of steps and messages, and none passes the step that is chosen."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepole.pipeline.distributed.agreement import Decision, Rounds, StepAgreement


@dataclass
class Rank:
    """One rank: its count, its side of the agreement, and the messages on their way to it, oldest first."""

    agreement: StepAgreement = field(default_factory=StepAgreement)
    count: int = 0
    inbox: list = field(default_factory=list)
    acted: list = field(default_factory=list)
    waiting: bool = False

    def step(self):
        """Counts one step, or looks again if it waits; acts as `RankScheduler.on_step` does, and ends at a stop."""
        if self.stopped:
            return
        if not self.waiting:
            self.count += 1
        self.waiting = self.count >= self.agreement.gate and self.agreement.must_wait(self.count)
        if not self.waiting and self.count >= self.agreement.gate:
            decision = self.agreement.due(self.count)
            if decision is not None:
                self.acted.append((self.count, decision.kind, decision.signal))

    @property
    def stopped(self):
        return bool(self.acted) and bool(self.acted[-1][2])

    def receive(self):
        """Handles the oldest message; gives the answer to the server, if there is one."""
        message = self.inbox.pop(0)
        if message["op"] == "ask":
            return message["round"], self.agreement.answer(lambda: self.count)
        self.agreement.decide(Decision(message["at"], message["kind"], message["signal"]))
        return None


REQUESTS = st.sampled_from([("time", ""), ("best", ""), ("signal", "SIGTERM"), ("signal", "SIGINT")])


@settings(max_examples=300, deadline=None)
@given(size=st.integers(1, 4), moves=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80), data=st.data())
def test_all_ranks_act_at_the_same_steps(size, moves, data):
    ranks, server = [Rank() for _ in range(size)], Rounds()
    alive = range(size)

    def send(messages):
        for message in messages:
            for rank in ranks:
                rank.inbox.append(message)

    def move(index, *, receives):
        rank = ranks[index]
        if receives and rank.inbox:
            answer = rank.receive()
            if answer is not None:
                send(server.limit(index, *answer, alive))
        else:
            rank.step()

    asked = []
    for index, receives in moves:
        if data.draw(st.integers(0, 7)) == 0:
            kind, signal = data.draw(REQUESTS)
            asked.append((kind, signal))
            send(server.request({"op": "request", "kind": kind, "signal": signal, "grace": None}))
        move(index % size, receives=receives)
    while any(rank.inbox for rank in ranks):  # what is on its way arrives, in turn
        for index, rank in enumerate(ranks):
            if rank.inbox:
                move(index, receives=True)
    last = max(rank.count for rank in ranks) + 2
    for rank in ranks:
        while rank.count < last and not rank.stopped:
            rank.step()
    acted = ranks[0].acted
    assert all(rank.acted == acted for rank in ranks)
    assert bool(acted) == bool(asked)
    assert {(kind, signal) for _, kind, signal in acted} <= set(asked)
    assert ranks[0].stopped == any(signal for _, signal in asked)


def test_a_rank_that_has_left_is_not_waited_for():
    server = Rounds()
    assert server.request({"kind": "signal", "signal": "SIGTERM", "grace": 9.0}) == [{"op": "ask", "round": 1}]
    assert server.limit(0, 1, 7, [0, 1]) == []
    assert server.close([0]) == [{"op": "plan", "at": 7, "kind": "signal", "signal": "SIGTERM", "grace": 9.0}]


def test_a_signal_is_sought_once_and_other_requests_queue_up():
    server = Rounds()
    request = {"kind": "signal", "signal": "SIGTERM", "grace": None}
    assert server.request(request)
    assert server.request(request) == []
    assert server.request({"kind": "time", "signal": "", "grace": None}) == []
    decision, following = server.limit(0, 1, 3, [0])
    assert (decision["at"], following) == (3, {"op": "ask", "round": 2})

"""The lifecycle contract, outside a pipeline."""

import copy
import pickle
import threading
from dataclasses import dataclass

import pytest

from ridgepole import LifecycleError, Permanence
from ridgepole.permanence import State, construct, state_of


class Recorder(Permanence):
    """Writes down what happens to it; never calls super().__init__()."""

    def __init__(self, log=None, fail_in=None, error=ValueError):
        self.log = [] if log is None else log
        self.fail_in = fail_in
        self.error = error

    def note(self, phase):
        self.log.append(phase)
        if phase == self.fail_in:
            raise self.error(phase)

    def initialize(self):
        self.note("initialize")

    def validate(self):
        self.note("validate")

    def cleanup(self):
        self.note("cleanup")


class Plain(Permanence):
    def cleanup(self):
        pass


def test_states_of_a_life():
    recorder = Recorder()
    assert state_of(recorder) is State.CONSTRUCTED
    assert not recorder.is_initialized()
    recorder.initialize()
    assert state_of(recorder) is State.READY
    assert recorder.is_initialized()
    recorder.cleanup()
    assert state_of(recorder) is State.CLOSED
    assert not recorder.is_initialized()


def test_state_while_it_moves():
    seen = []

    class Looking(Permanence):
        def initialize(self):
            seen.append(state_of(self))

        def cleanup(self):
            seen.append(state_of(self))

    with Looking():
        pass
    assert seen == [State.INITIALIZING, State.CLEANING]


def test_context_manager_order():
    recorder = Recorder()
    with recorder as entered:
        assert entered is recorder
        recorder.log.append("body")
    assert recorder.log == ["initialize", "validate", "body", "cleanup"]


@pytest.mark.parametrize("phase", ["initialize", "validate"])
def test_context_manager_cleans_up_where_entering_fails(phase):
    recorder = Recorder(fail_in=phase)
    with pytest.raises(ValueError, match=phase), recorder:
        pytest.fail("the body must not run")
    assert recorder.log.count("cleanup") == 1
    assert recorder.log[-1] == "cleanup"


def test_the_bodys_error_stays_the_first_cause():
    recorder = Recorder(fail_in="cleanup")
    with pytest.raises(ExceptionGroup) as caught, recorder:
        raise KeyError("body")
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]


def test_an_interrupt_among_errors_makes_a_base_group():
    recorder = Recorder(fail_in="cleanup", error=KeyboardInterrupt)
    with pytest.raises(BaseExceptionGroup) as caught, recorder:
        raise KeyError("body")
    assert not isinstance(caught.value, ExceptionGroup)


def test_second_cleanup_is_a_no_op():
    recorder = Recorder()
    recorder.initialize()
    recorder.cleanup()
    recorder.cleanup()
    assert recorder.log.count("cleanup") == 1


def test_cleanup_without_initialize():
    recorder = Recorder()
    recorder.cleanup()
    assert recorder.log == ["cleanup"]


def test_failed_initialize_still_owes_a_cleanup():
    recorder = Recorder(fail_in="initialize")
    with pytest.raises(ValueError, match="initialize"):
        recorder.initialize()
    assert state_of(recorder) is State.FAILED
    with pytest.raises(LifecycleError, match="failed"):
        recorder.initialize()
    recorder.cleanup()
    assert state_of(recorder) is State.CLOSED


def test_illegal_moves_are_refused_in_words():
    recorder = Recorder()
    recorder.initialize()
    with pytest.raises(LifecycleError, match="Recorder is initialised already"):
        recorder.initialize()
    recorder.cleanup()
    with pytest.raises(LifecycleError, match="construct a new one"):
        recorder.initialize()
    with pytest.raises(LifecycleError, match="construct a new one"):
        recorder.defer(print)
    assert recorder.log == ["initialize", "cleanup"]


def test_super_calls_are_one_move():
    class Base(Recorder):
        pass

    class Derived(Base):
        def initialize(self):
            super().initialize()
            self.log.append("derived")

        def cleanup(self):
            self.log.append("derived")
            super().cleanup()

    derived = Derived()
    derived.initialize()
    assert state_of(derived) is State.READY
    derived.cleanup()
    assert derived.log == ["initialize", "derived", "derived", "cleanup"]


def test_a_mixins_hooks_keep_the_state_too():
    class Mixin:
        def initialize(self):
            self.ran = True

    class Mixed(Mixin, Plain):
        pass

    mixed = Mixed()
    mixed.initialize()
    assert mixed.ran
    assert mixed.is_initialized()


def test_initialize_may_clean_up_after_itself():
    class Careful(Plain):
        def initialize(self):
            self.cleanup()
            raise OSError("no port")

    careful = Careful()
    with pytest.raises(OSError, match="no port"):
        careful.initialize()
    assert state_of(careful) is State.CLOSED


def test_cleanup_from_another_thread_does_not_wait():
    entered, leave = threading.Event(), threading.Event()

    class Slow(Permanence):
        count = 0

        def cleanup(self):
            self.count += 1
            entered.set()
            assert leave.wait(10)

    slow = Slow()
    thread = threading.Thread(target=slow.cleanup)
    thread.start()
    assert entered.wait(10)
    slow.cleanup()
    leave.set()
    thread.join(10)
    assert slow.count == 1


def test_deferred_runs_last_first_after_cleanup():
    recorder = Recorder()
    recorder.defer(recorder.log.append, "first taken")
    recorder.defer(recorder.log.append, "second taken")
    recorder.cleanup()
    assert recorder.log == ["cleanup", "second taken", "first taken"]


def test_every_deferred_piece_gets_its_turn():
    recorder = Recorder(fail_in="cleanup")
    recorder.defer(recorder.log.append, "ran")

    def burn():
        raise OSError("deferred")

    recorder.defer(burn)
    with pytest.raises(ExceptionGroup) as caught:
        recorder.cleanup()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, OSError]
    assert recorder.log == ["cleanup", "ran"]
    assert state_of(recorder) is State.CLOSED


def test_one_error_of_a_cleanup_is_raised_unchanged():
    recorder = Recorder(fail_in="cleanup")
    with pytest.raises(ValueError, match="cleanup"):
        recorder.cleanup()


def test_a_constructor_that_raises_runs_what_it_deferred():
    log = []

    class Leaking(Plain):
        def __init__(self):
            self.defer(log.append, "given back")
            raise OSError("half-way")

        def cleanup(self):
            log.append("cleanup")

    with pytest.raises(OSError, match="half-way"):
        construct(Leaking)
    assert log == ["given back"]


def test_get_state_always_says_type_and_initialized():
    class Stateful(Plain):
        def get_state(self):
            return {"size": 3}

    stateful = Stateful()
    assert stateful.get_state() == {"type": "Stateful", "initialized": False, "size": 3}
    assert Plain().get_state() == {"type": "Plain", "initialized": False}
    stateful.initialize()
    assert stateful.get_state()["initialized"] is True


def test_is_initialized_may_be_overridden():
    class Own(Plain):
        def is_initialized(self):
            return True

    assert Own().get_state()["initialized"] is True


def test_only_cleanup_is_abstract():
    class Empty(Permanence):
        pass

    with pytest.raises(TypeError, match="cleanup"):
        Empty()


def test_a_dataclass_can_be_a_permanence():
    @dataclass
    class Data(Permanence):
        size: int

        def cleanup(self):
            self.size = 0

    with Data(3) as data:
        assert data.size == 3
    assert data.size == 0


def test_the_framework_takes_no_public_name():
    recorder = Recorder()
    with recorder:
        pass
    public = {name for name in vars(recorder) if not name.startswith("_")}
    assert public == {"log", "fail_in", "error"}


def test_a_copy_owns_nothing():
    """A pickled twin, such as a DataLoader worker's data set, must not give the original's resources back."""
    recorder = Recorder()
    given_back = []
    recorder.defer(given_back.append, 1)
    recorder.initialize()
    twin = copy.deepcopy(recorder)
    pickle.loads(pickle.dumps(Plain2()))
    twin.cleanup()
    assert given_back == []
    assert recorder.is_initialized()
    recorder.cleanup()
    assert given_back == [1]


class Plain2(Plain):
    pass


def test_a_torch_module_can_be_a_permanence():
    torch = pytest.importorskip("torch")

    class Net(Permanence, torch.nn.Module):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.layer = torch.nn.Linear(2, 2)

        def cleanup(self):
            del self.layer

    with Net() as net:
        assert net.is_initialized()
        assert set(net.state_dict()) == {"layer.weight", "layer.bias"}

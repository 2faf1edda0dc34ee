"""`ResumableLoader`: torch's DataLoader with an order that can be entered anywhere."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ridgepole.data import checks
from ridgepole.data.checks import FORMAT, read_cursor
from ridgepole.data.fetching import Fetcher, Single, WorkerStart, unchanged
from ridgepole.data.order import WORKERS, InTurn, Order, Sampler, Schedule, Shuffled, Weighted, derive
from ridgepole.data.ranges import Ranges, ahead, merged, passed
from ridgepole.data.samplers import BatchSchedule, Listed, Sampled
from ridgepole.data.workers import reap_by_force, starting_workers, stop_workers
from ridgepole.errors import MissingExtraError
from ridgepole.permanence import current_run
from ridgepole.steptimes import StepTimes, describe_source

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class MapDataset(Protocol):
    """A data set: a list, an array, a tensor, a torch `Dataset`, a Hugging Face data set."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return the item at an index."""
        ...


class ResumableLoader:
    """Loads batches for several epochs, and resumes inside an epoch without reading earlier items.

    ```python
    loader = ResumableLoader(images, batch_size=64, epochs=10)
    for batch in track(loader, "train", tick=True):
        ...
    ```

    One loop runs through the batches of all epochs; workers stay alive between epochs. The items of
    a batch, and the random numbers of their augmentation, depend only on `seed`, the epoch and the
    batch's number. They do not depend on the number of workers or on interruptions. While a batch
    is fetched, the global random generators of python, numpy and torch are seeded for it; in the
    training process they are restored afterwards.

    A `for` loop begins with the first batch, also after an earlier loop was left by `break`, as
    with a list. Only the first loop after `load_state_dict` begins where the state was taken.

    Args:
        dataset: Any object with `__len__` and `__getitem__(index)`; `__getitems__(indices)` is used
            if it exists.
        batch_size: Items in a batch, on each rank. With None, items come one by one, without a
            batch.
        epochs: How often to go through all items. 0 gives no batches.
        seed: 0 to 2**64 - 1. By default the seed of the run in which the loader is constructed, and
            0 outside of a run (as torch's `DistributedSampler`). It must be the same on every rank.
        shuffle: Use a new order each epoch, else the order of the data set.
        drop_last: Drop the last batch of an epoch if it is not full.
        num_workers: Processes that prefetch batches. 0 fetches in this process; then the arguments
            about workers have no effect.
        collate_fn: Makes a batch of a list of items; torch's `default_collate` by default.
        pin_memory: Copy batches to pinned memory if there is an accelerator.
        prefetch_factor: Batches that each worker fetches ahead; torch's default is 2.
        persistent_workers: Keep the workers between loops. (They outlive epochs in any case.)
        sampler: Gives the indices of an epoch in the place of `shuffle`, such as torch's
            `WeightedRandomSampler`. It is listed for each epoch with seeded generators, so it needs
            a length. One that gives each rank its share, as `DistributedSampler`, is not shared
            again.
        batch_sampler: Gives lists of indices, in the place of `batch_size`, `shuffle`, `drop_last`
            and `sampler`.
        weights: One weight of at least 0 per item. Each epoch draws as many items as there are,
            with replacement, with a probability proportional to their weight.
        worker_init_fn: Called with the worker's number in each new worker. Seeds that it sets don't
            last: every batch has its own randomness.
        multiprocessing_context: `"fork"`, `"spawn"`, `"forkserver"`, or a context of
            `multiprocessing`.
        timeout: Seconds to wait for a batch from a worker; 0 waits forever.
        rank: Number of this process among those that share the data set. By default
            torch.distributed's if it is initialised, else the launcher's (torchrun, MPI, srun),
            else 0.
        global_batch: Items in the batches of all ranks together, in the place of `batch_size`. The
            number of ranks must divide it. The order of the items is then the same for any number
            of ranks, so that a run may be resumed with another number. The last batch of an epoch
            is filled up with the epoch's first items, or dropped with `drop_last`.
        world_size: How many processes share the data set. All get the same number of batches: if
            the items don't divide evenly, the first items of an epoch are used again; with
            `drop_last`, items that don't fill a batch on every rank are dropped.

    Attributes:
        dataset: As given.
        batch_size: Items in a batch on this rank.
        global_batch: As given.
        epochs: As given.
        seed: The seed in use.
        shuffle: As given.
        drop_last: As given.
        num_workers: As given.
        persistent_workers: As given.
        rank: The rank in use.
        world_size: The number of ranks in use.
        batches_per_epoch: Batches of one epoch on one rank.

    Raises:
        TypeError: If the data set has no `__getitem__` or no length, or an argument has a wrong
            type.
        ValueError: If `drop_last` leaves no batch, or an argument is out of range.
        MissingExtraError: If torch or numpy is not installed.
    """

    def __init__(
        self,
        dataset: MapDataset,
        batch_size: int | None = 1,
        epochs: int = 1,
        *,
        seed: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        weights: Any = None,
        worker_init_fn: Callable[[int], object] | None = None,
        multiprocessing_context: Any = None,
        timeout: float = 0,
        global_batch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        _need_torch()
        self.dataset = dataset
        self.rank, self.world_size = checks.ranks(rank, world_size)
        self.global_batch = None if global_batch is None else checks.whole_number(global_batch, "global_batch", 1)
        if self.global_batch is not None:
            batch_size = checks.share_of(self.global_batch, self.world_size, batch_size)
        self.batch_size = None if batch_size is None else checks.whole_number(batch_size, "batch_size", 1)
        self.epochs = checks.whole_number(epochs, "epochs", 0)
        self.seed = checks.seed_of_run(seed)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.num_workers = checks.whole_number(num_workers, "num_workers", 0)
        self.persistent_workers = bool(persistent_workers)
        self._length = checks.dataset_length(dataset)
        self._weights: str | None = None
        given = {"sampler": sampler, "batch_sampler": batch_sampler, "weights": weights}
        alone = self.batch_size if self.global_batch is None else 0
        checks.one_order(given, batch_size=alone, drop_last=self.drop_last)
        chosen = batch_sampler if batch_sampler is not None else sampler
        self._listed = None if chosen is None else Listed(chosen, self.seed)
        checks.whole_order(self.global_batch, self._listed)
        self._sampler = Sampler(self._batches() if batch_sampler is not None else self._schedule(self._order(weights)))
        self.batches_per_epoch = self._sampler.schedule.batches_per_epoch
        if self.batches_per_epoch == 0 and self._length and self.drop_last:
            raise ValueError(
                f"drop_last leaves nothing: {self._length} items don't fill a batch of {self.batch_size} on each of "
                f"{self.world_size} ranks; make batch_size smaller or pass drop_last=False"
            )
        self._options: dict[str, Any] = {"pin_memory": pin_memory and _has_accelerator()}
        if self.num_workers:
            self._options |= {
                "num_workers": self.num_workers,
                "prefetch_factor": prefetch_factor,
                "persistent_workers": self.persistent_workers,
                "worker_init_fn": WorkerStart(worker_init_fn),
                "multiprocessing_context": multiprocessing_context,
                "timeout": timeout,
            }
        collate = collate_fn or (_default_collate() if self._batched else _default_convert())
        self._fetcher = Fetcher(dataset, collate if self._batched else Single(collate), borrows=self.num_workers == 0)
        self._torch_loader = self._make_torch_loader()
        self._start = self._cursor = self._loops = 0
        self._left_out: Ranges = ()
        self._to_leave_out: Ranges = ()
        self._running: Callable[[], Generator[Any, None, None] | None] = _nothing

    @property
    def _batched(self) -> bool:
        return self.batch_size is not None

    def _order(self, weights: Any) -> Order:
        if self._listed is not None:
            return Sampled(self._listed)
        if weights is None:
            return Shuffled(self._length, self.seed) if self.shuffle else InTurn()
        if not self.shuffle:
            raise ValueError("weights draw items at random, which shuffle=False forbids: pass one of the two")
        numbers = checks.checked_weights(weights, self._length)
        self._weights = hashlib.sha256(numbers.tobytes()).hexdigest()[:16]
        return Weighted(self.seed, numbers.cumsum())

    def _share(self) -> tuple[int, int]:
        """Return rank and world size among which the order is still to be shared."""
        return (0, 1) if self._listed is not None and self._listed.shares else (self.rank, self.world_size)

    def _schedule(self, order: Order) -> Schedule:
        rank, world_size = self._share()
        return Schedule(
            order=order,
            length=self._length if self._listed is None else self._listed.length,
            batch_size=self.batch_size or 1,
            epochs=self.epochs,
            drop_last=self.drop_last,
            rank=rank,
            world_size=world_size,
            seed=derive(self.seed, self.rank) if world_size < self.world_size else self.seed,
            whole=self.global_batch is not None,
        )

    def _batches(self) -> BatchSchedule:
        assert self._listed is not None
        rank, world_size = self._share()
        seed = derive(self.seed, self.rank) if world_size < self.world_size else self.seed
        return BatchSchedule(listed=self._listed, epochs=self.epochs, rank=rank, world_size=world_size, seed=seed)

    def _make_torch_loader(self) -> DataLoader[Any]:
        import torch
        from torch.utils.data import DataLoader

        fetcher: Any = self._fetcher
        return DataLoader(
            fetcher,
            sampler=self._sampler,  # each "index" is the job of a whole batch
            batch_size=None,
            collate_fn=unchanged,
            generator=torch.Generator(),  # else it uses the training's generator
            **self._options,
        )

    def __len__(self) -> int:
        """Return the number of batches of all epochs on this rank, wherever a loop begins."""
        return self.epochs * self.batches_per_epoch

    @property
    def cursor(self) -> int:
        """Count the batches that the latest loop has handed out, including those before its start.

        Prefetched batches don't count.
        """
        return self._cursor

    @property
    def start(self) -> int:
        """Return how many batches the next loop skips: 0, unless a state was loaded."""
        return self._start

    @property
    def epoch(self) -> int:
        """Return the epoch of the last batch, counted from 0 or from `set_epoch`."""
        return self._sampler.first_epoch + max(0, self._cursor - 1) // max(1, self.batches_per_epoch)

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop begin with an epoch, as with torch's `DistributedSampler`.

        For a loop of your own around a loader of one epoch. A loaded position stays if it is in
        this epoch.
        """
        number = checks.whole_number(epoch, "epoch", 0)
        if number != self._sampler.first_epoch:
            self._sampler.first_epoch, self._start, self._to_leave_out = number, 0, ()

    @property
    def epoch_ends(self) -> bool:
        """Tell whether the last batch was the last of its epoch."""
        return self._cursor > 0 and self._cursor % self.batches_per_epoch == 0

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        self._left_out, self._to_leave_out = self._to_leave_out, ()
        self._cursor = start
        self._loops += 1
        batches = self._hand_out(start, self._loops)
        self._running = weakref.ref(batches)
        return batches

    def _hand_out(self, start: int, loop: int) -> Generator[Any, None, None]:
        left_out = self._left_out
        self._sampler.start, self._sampler.left_out = start, left_out
        self._torch_loader.generator.manual_seed(derive(WORKERS, self.seed))
        batches: Any = None
        keep = self.persistent_workers
        try:
            with self._starting_workers():
                batches = iter(self._torch_loader)
                reap_by_force(batches)
            for batch in self._measured(batches):
                start = passed(start, 1, left_out)
                if loop == self._loops:  # else a newer loop owns the cursor
                    self._cursor = start
                yield batch
                del batch  # not kept alive while the next one is fetched
        except GeneratorExit:
            raise
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                self._stop_workers(batches)

    def _measured(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Note in the run how long batches take, unless a loop around this one does so."""
        run = current_run.get()
        if run is None or run.ticks.loops:
            return batches
        run.ticks.times.source = describe_source(self, None, 0.0)
        return _waited_for(iter(batches), run.ticks.times)

    def _starting_workers(self) -> AbstractContextManager[None]:
        """Make workers that are started inside the block outlast the signals of a stop."""
        if not self.num_workers:
            return nullcontext()
        context: Any = self._torch_loader.multiprocessing_context or multiprocessing
        start: WorkerStart = self._options["worker_init_fn"]
        start.die_with_parent = threading.current_thread() is threading.main_thread()
        return starting_workers(context.get_start_method())

    def _stop_workers(self, batches: Any) -> None:
        stop_workers(batches)
        self._torch_loader._iterator = None  # noqa: SLF001 - torch has no public way to end persistent workers

    def close(self) -> None:
        """End the running loop and all workers. The loader can be used again."""
        if (running := self._running()) is not None:
            running.close()
        self._stop_workers(self._torch_loader._iterator)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the position and all it depends on, and the state of a data set that has one.

        The position is the same on every rank. A data set in workers has copies, whose changes are
        not stored.
        """
        left_out = ahead(self._left_out, self._cursor)
        return {
            "format": FORMAT,
            "cursor": self._cursor,
            "epochs": self.epochs,
            "seed": self.seed,
            "length": self._length,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "weights": self._weights,
            "sampler": None if self._listed is None else str(self._listed),
            "first_epoch": self._sampler.first_epoch,
            "dataset": _dataset_state(self.dataset),
            "world_size": self.world_size,
            "global_batch": self.global_batch,
        } | ({"leave_out": [list(each) for each in left_out]} if left_out else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next loop where the state was taken.

        `epochs` may differ from the stored value if it covers the batches already done. The number
        of workers may differ, too.

        Args:
            state: A state from `state_dict`. It may have a key `"leave_out"` with ranges of batches
                that the next loop does not fetch, such as `[[120, 130]]` for 120 to 129.

        Raises:
            TypeError: If it is not a mapping.
            ValueError: If it is not the state of a loader with the same order; the message names
                the differences.
        """
        cursor = read_cursor(state, self.state_dict(), self.batches_per_epoch)
        self._start = self._cursor = cursor
        self._left_out = self._to_leave_out = merged(state.get("leave_out", ()))
        self._sampler.first_epoch = int(state.get("first_epoch", 0))
        if state.get("dataset") is not None:
            self.dataset.load_state_dict(state["dataset"])  # type: ignore[attr-defined]
        self._loops += 1  # a loop that is still running no longer moves the cursor

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in {"_torch_loader", "_running"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._torch_loader = self._make_torch_loader()
        self._running = _nothing


def _waited_for(batches: Iterator[Any], times: StepTimes) -> Iterator[Any]:
    while True:
        began = perf_counter()
        batch = next(batches, _END)
        times.waited(perf_counter() - began)
        if batch is _END:
            return
        yield batch
        del batch  # not kept alive while the next one is fetched


_END = object()


def _dataset_state(dataset: Any) -> Any:
    """Return the state of a data set that can restore it; None for others."""
    hooks = (getattr(dataset, name, None) for name in ("state_dict", "load_state_dict"))
    return dataset.state_dict() if all(map(callable, hooks)) else None


def _nothing() -> None:
    """Stand in for a weak reference to a loop when no loop runs."""


def _need_torch() -> None:
    for package in ("numpy", "torch"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "torch", "ResumableLoader") from error


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _default_convert() -> Callable[[Any], Any]:
    from torch.utils.data import default_convert

    return default_convert


def _default_collate() -> Callable[[list[Any]], Any]:
    from torch.utils.data import default_collate

    return default_collate

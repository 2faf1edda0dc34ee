"""`ResumableLoader`: torch's DataLoader with an order that can be entered anywhere."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ridgepole.errors import MissingExtraError
from ridgepole.loading import checks
from ridgepole.loading.fetching import Fetcher, WorkerStart, unchanged
from ridgepole.loading.order import WORKERS, InTurn, Order, Shuffled, Weighted, derive
from ridgepole.loading.schedule import Sampler, Schedule
from ridgepole.loading.state import FORMAT, read_cursor

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class MapDataset(Protocol):
    """What items are loaded from: a list, an array, a tensor, a torch `Dataset`, a Hugging Face data set."""

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """The item of that number."""
        ...


class ResumableLoader:
    """Loads batches for several epochs, and can go on in the middle of one without touching what came before.

    ```python
    loader = ResumableLoader(images, batch_size=64, epochs=10)
    for batch in track(loader, "train", tick=True):
        ...
    ```

    One loop goes through the batches of all epochs; workers live on from one epoch to the next. Which items are in a
    batch, and what augmentation draws while they are fetched, depends on nothing but `seed`, the epoch and the batch's
    number: not on the number of workers, nor on whether the loop was interrupted. The global random generators of
    python, numpy and torch are seeded for each batch while its items are fetched; in the training's own process they
    are as before afterwards.

    A `for` loop begins with the first batch, also after an earlier loop was left by `break`, as with a list. The one
    loop after `load_state_dict` begins where the state was taken.

    Args:
        dataset: Anything with `__len__` and `__getitem__(index)`; `__getitems__(indices)` is used where there is one.
        batch_size: Items in a batch, on each rank.
        epochs: How often to go through all items. 0 gives no batches.
        seed: 0 to 2**64 - 1. By default the seed of the run in which the loader is made, and 0 outside of a run (as
            torch's `DistributedSampler`). It must be the same on every rank.
        shuffle: A new order each epoch; otherwise that of the data set.
        drop_last: Leave out the last batch of an epoch if it is not full.
        num_workers: Processes that fetch batches ahead; 0 fetches in this one, and the arguments that are about
            workers have no effect then.
        collate_fn: Makes a batch of a list of items; torch's `default_collate` by default.
        pin_memory: Copy batches to pinned memory where there is an accelerator; without effect where there is none.
        prefetch_factor: Batches that each worker fetches ahead; torch's default is 2.
        persistent_workers: Keep the workers from one loop to the next. (They outlive epochs in any case.)
        weights: One weight for each item, not negative: each epoch draws as many items as there are, with replacement,
            each with a chance in proportion to its weight.
        worker_init_fn: Called with the number of the worker in each new one. What it seeds doesn't last: every batch
            has its own randomness.
        multiprocessing_context: `"fork"`, `"spawn"`, `"forkserver"`, or a context of `multiprocessing`.
        timeout: Seconds to wait for a batch from a worker; 0 is for ever.
        rank: Number of this process among those that share the data set. By default torch.distributed's if it is
            initialised, else the launcher's (torchrun, MPI, srun), else there is one process.
        world_size: How many processes share it. All get as many batches: the first items of an epoch are dealt again
            where they don't come out even; with `drop_last` what doesn't fill a batch on every rank is left out.

    Attributes:
        dataset: As given.
        batch_size: As given.
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
        TypeError: If the data set can't be asked for items by number or has no length, or an argument is of a wrong
            type.
        ValueError: If the data set is empty, no batch would be full under `drop_last`, or an argument is out of range.
        MissingExtraError: If torch or numpy is not installed.
    """

    def __init__(
        self,
        dataset: MapDataset,
        batch_size: int = 1,
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
        weights: Any = None,
        worker_init_fn: Callable[[int], object] | None = None,
        multiprocessing_context: Any = None,
        timeout: float = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        _need_torch()
        self.dataset = dataset
        self.batch_size = checks.whole_number(batch_size, "batch_size", 1)
        self.epochs = checks.whole_number(epochs, "epochs", 0)
        self.seed = checks.seed_of_run(seed)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.num_workers = checks.whole_number(num_workers, "num_workers", 0)
        self.persistent_workers = bool(persistent_workers)
        self.rank, self.world_size = checks.ranks(rank, world_size)
        self._length = checks.dataset_length(dataset)
        self._weights: str | None = None
        self._sampler = Sampler(self._schedule(self._order(weights)))
        self.batches_per_epoch = self._sampler.schedule.batches_per_epoch
        if self.batches_per_epoch == 0:
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
        self._fetcher = Fetcher(dataset, collate_fn or _default_collate(), borrows=self.num_workers == 0)
        self._torch_loader = self._make_torch_loader()
        self._start = self._cursor = self._loops = 0
        self._running: Callable[[], Generator[Any, None, None] | None] = _nothing

    def _order(self, weights: Any) -> Order:
        if weights is None:
            return Shuffled(self._length, self.seed) if self.shuffle else InTurn()
        if not self.shuffle:
            raise ValueError("weights draw items at random, which shuffle=False forbids: pass one of the two")
        numbers = checks.checked_weights(weights, self._length)
        self._weights = hashlib.sha256(numbers.tobytes()).hexdigest()[:16]
        return Weighted(self.seed, numbers.cumsum())

    def _schedule(self, order: Order) -> Schedule:
        return Schedule(
            order=order,
            length=self._length,
            batch_size=self.batch_size,
            epochs=self.epochs,
            drop_last=self.drop_last,
            rank=self.rank,
            world_size=self.world_size,
            seed=self.seed,
        )

    def _make_torch_loader(self) -> DataLoader[Any]:
        import torch
        from torch.utils.data import DataLoader

        fetcher: Any = self._fetcher
        return DataLoader(
            fetcher,
            sampler=self._sampler,  # each "index" is the job of a whole batch
            batch_size=None,
            collate_fn=unchanged,
            generator=torch.Generator(),  # else it would draw the workers' seed from the training's generator
            **self._options,
        )

    def __len__(self) -> int:
        """Batches in all epochs on this rank, wherever an iteration begins."""
        return self.epochs * self.batches_per_epoch

    @property
    def cursor(self) -> int:
        """Batches that the latest loop has handed out, those before its start included; prefetched ones don't count."""
        return self._cursor

    @property
    def start(self) -> int:
        """How many batches the next loop leaves out: 0, unless a state was loaded since the last one began."""
        return self._start

    @property
    def epoch(self) -> int:
        """The epoch of the batch that was handed out last, counted from 0."""
        return max(0, self._cursor - 1) // self.batches_per_epoch

    @property
    def epoch_ends(self) -> bool:
        """Whether the batch that was handed out last is the last of its epoch."""
        return self._cursor > 0 and self._cursor % self.batches_per_epoch == 0

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        self._cursor = start
        self._loops += 1
        batches = self._hand_out(start, self._loops)
        self._running = weakref.ref(batches)
        return batches

    def _hand_out(self, start: int, loop: int) -> Generator[Any, None, None]:
        self._sampler.start = start
        self._torch_loader.generator.manual_seed(derive(WORKERS, self.seed))
        batches = iter(self._torch_loader)
        keep = self.persistent_workers
        try:
            for batch in batches:
                start += 1
                if loop == self._loops:  # else another loop has begun meanwhile, and the cursor is its
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

    def _stop_workers(self, batches: Any) -> None:
        # A traceback that somebody keeps would keep the workers too, if they were left to the garbage collector.
        if stop := getattr(batches, "_shutdown_workers", None):
            stop()
        self._torch_loader._iterator = None  # noqa: SLF001 - torch has no public way to end persistent workers

    def close(self) -> None:
        """Ends the running loop, if any, and its workers, persistent ones too. The loader can be used again."""
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
        """The position and what it depends on, as plain JSON values; the same on every rank."""
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
            "world_size": self.world_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next loop begin where the state was taken.

        Only `epochs` may differ from the stored one, as long as it is not less than what was done already; and the
        number of workers, which changes nothing.

        Args:
            state: What `state_dict` returned.

        Raises:
            TypeError: If it is not a mapping.
            ValueError: If it is not a loader's state, or that of a loader with another order; names what differs.
        """
        cursor = read_cursor(state, self.state_dict(), self.batches_per_epoch)
        self._start = self._cursor = cursor
        self._loops += 1  # a loop that is still running no longer moves the cursor

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in {"_torch_loader", "_running"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._torch_loader = self._make_torch_loader()
        self._running = _nothing


def _nothing() -> None:
    """In place of a weak reference to a loop: there is none."""


def _need_torch() -> None:
    for package in ("numpy", "torch"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "torch", "ResumableLoader") from error


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _default_collate() -> Callable[[list[Any]], Any]:
    from torch.utils.data import default_collate

    return default_collate

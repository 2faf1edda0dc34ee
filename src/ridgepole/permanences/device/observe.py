"""What is there, seen from this process: opens the one source that answers, reads it, and numbers the cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ridgepole.permanences.device import torchside, visible
from ridgepole.permanences.device.cards import Card, Source, SourceAbsentError, SourceTroubleError
from ridgepole.permanences.device.visible import Visible


@dataclass(frozen=True, slots=True)
class Scene:
    """One look at the machine.

    Attributes:
        cards: Every accelerator, numbered as torch numbers it; hidden ones have no index.
        seen: Which of them this process can see.
        build: What the installed torch was built for, or None without torch.
        absent: Why there is no accelerator; empty where there is one.
        trouble: Why an accelerator that seems to be there can't be asked; empty where it can.
        notes: What a person should know.
    """

    cards: tuple[Card, ...] = ()
    seen: Visible = field(default_factory=lambda: Visible(()))
    build: torchside.Build | None = None
    absent: str = ""
    trouble: str = ""
    notes: tuple[str, ...] = ()

    @property
    def wrong_build(self) -> str:
        """What is wrong where torch can't drive the cards that are there; else empty."""
        if not self.cards or self.build is None:
            return ""
        source = self.cards[0].source
        if source.startswith("nvml"):
            maker, platform, fits = "NVIDIA", "CUDA", self.build.cuda
        elif source.startswith(("amdsmi", "kfd")):
            maker, platform, fits = "AMD", "ROCm", self.build.hip
        else:
            return ""  # torch itself has listed them
        if fits:
            return ""
        count = len(self.cards)
        are, them = ("GPU is", "it") if count == 1 else ("GPUs are", "them")
        return (
            f"{count} {maker} {are} here, but the installed torch {self.build.version} was built for "
            f"{self.build.target} and can't use {them}: install a {platform} build "
            "(https://pytorch.org/get-started/locally)"
        )


class Observer:
    """Looks at the machine as often as asked; static facts are read once. Made by `observing`."""

    def __init__(self, seen: Visible | None = None) -> None:
        self._build = torchside.build()
        self._source: Source | None = None
        self._absent: list[str] = []
        self._trouble = ""
        self._seen = seen
        self._open()

    def _open(self) -> None:
        for_rocm = self._build is not None and self._build.hip is not None
        sources: list[Callable[[], Source]] = [_nvml, lambda: _rocm(wanted=for_rocm)]
        for source in reversed(sources) if for_rocm else sources:
            try:
                self._source = source()
                self._trouble = ""
                return
            except SourceAbsentError as error:
                self._absent += [str(error)] if str(error) else []
            except SourceTroubleError as error:
                self._trouble = str(error)
        self._open_torch()

    def _open_torch(self) -> None:
        """The last resort; torch is imported only where the system shows a device that it could drive."""
        from ridgepole.permanences.device.torch_source import TorchSource, may_have_device

        if self._build is None or not may_have_device(self._build):
            return
        try:
            self._source = TorchSource(self._build)
            self._trouble = ""
        except SourceAbsentError as error:
            self._absent.append(str(error))

    def prepare(self) -> bool:
        """Finds torch's order of the cards, which can take a child process and so is not for under a lock.

        Returns:
            Whether there is any source to look through.
        """
        if self._source is not None and self._seen is None:
            self._seen = self._source.see(self._source.read(processes=False))
        return self._source is not None

    def look(self, *, util: bool = False) -> Scene:
        """Reads every device now.

        Args:
            util: Whether to ask for the utilisation too.
        """
        if self._source is None:
            return Scene(build=self._build, absent="; ".join(self._absent), trouble=self._trouble)
        cards = self._source.read(util=util)
        if self._seen is None:
            self._seen = self._source.see(cards)
        return Scene(visible.number(cards, self._seen), self._seen, self._build, notes=self._seen.notes)

    def close(self) -> None:
        """Gives the source back."""
        if self._source is not None:
            self._source.close()


def _nvml() -> Source:
    from ridgepole.permanences.device.nvml import Nvml

    return Nvml()


def _rocm(*, wanted: bool) -> Source:
    from ridgepole.permanences.device.rocm import Rocm

    return Rocm(wanted=wanted)


@contextmanager
def observing(seen: Visible | None = None) -> Iterator[Observer]:
    """An `Observer`, closed at the end.

    Args:
        seen: What CUDA shows this process, where that was found out before.
    """
    observer = Observer(seen)
    try:
        yield observer
    finally:
        observer.close()

"""A data loader that goes on in the middle of an epoch; torch is loaded when one is made, not before."""

from ridgepole.loading.loader import ResumableLoader as ResumableLoader
from ridgepole.loading.protocol import Resumable as Resumable

"""Convert sounds, videos, HTML and other files to the form in which every backend gets them."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError
from ridgepole.loggers.media_types import MediaFile
from ridgepole.metrics.convert import safe_text, to_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
VIDEO = (".mp4", ".gif", ".webm", ".ogg")
HTML = (".html", ".htm")

_MAX_CHANNELS = 8
_FULL_SCALE = 32767


def audio_file(audio: Any, sample_rate: int | None) -> MediaFile:
    """Return a sound: a file as it is, an array as a WAV file of 16 bits.

    Raises:
        TypeError: If it is neither.
        ValueError: If the shape is not that of a sound, or an array comes without a sample rate.
    """
    if isinstance(audio, str | os.PathLike):
        return _existing(audio, "audio", AUDIO)
    array = _array(audio, "a sound")
    import numpy as np

    if sample_rate is None or sample_rate < 1:
        raise ValueError(f"sample_rate must be the samples per second of the array, such as 44100, not {sample_rate}")
    if array.ndim == 2 and array.shape[0] <= _MAX_CHANNELS < array.shape[1]:
        array = array.T  # channels first
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size or array.shape[1] > _MAX_CHANNELS:
        raise ValueError(f"a sound has the shape (samples,) or (samples, channels), not {np.shape(array)}")
    if array.dtype != np.int16:
        if array.dtype.kind != "f":
            raise TypeError(f"a sound has floats from -1 to 1 or 16-bit integers, not {array.dtype}")
        array = array.astype(np.promote_types(array.dtype, np.float32), copy=False)  # 16 bits have no 32767
        array = (np.clip(np.nan_to_num(array), -1, 1) * _FULL_SCALE).round().astype(np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(array.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(array.astype("<i2").tobytes())
    return MediaFile(kind="audio", suffix=".wav", data=buffer.getvalue())


def video_file(video: Any, fps: float) -> MediaFile:
    """Return a video: a file as it is, an array as an animated GIF.

    Raises:
        TypeError: If it is neither.
        ValueError: If the shape is not that of a video, or `fps` is not positive.
        MissingExtraError: If Pillow is needed and not installed.
    """
    if isinstance(video, str | os.PathLike):
        return _existing(video, "video", VIDEO)
    if not fps > 0:
        raise ValueError(f"fps must be positive, not {fps}")
    array = _array(video, "a video")
    import numpy as np

    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = array.transpose(0, 2, 3, 1)  # channels first
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or not array.size or array.shape[3] not in (1, 3):
        raise ValueError(
            f"a video has the shape (frames, height, width) or that with 1 or 3 channels, not {np.shape(array)}"
        )
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array), 0, 1) * 255
    elif array.dtype.kind not in "ui" or array.min() < 0 or array.max() > 255:
        raise TypeError(f"a video has floats from 0 to 1 or integers from 0 to 255, not {array.dtype}")
    return MediaFile(kind="video", suffix=".gif", data=_gif(array.round().astype(np.uint8), fps))


def _array(values: Any, what: str) -> NDArray[Any]:
    array = to_array(values)
    if array is None:
        raise TypeError(f"{what} is a path, an array or a tensor, not {type(values).__name__}")
    return array


def _gif(frames: Any, fps: float) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow", "plots", "log_video") from error
    pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=False
    )
    return buffer.getvalue()


def html_file(html: Any) -> MediaFile:
    """Return a page: text as it is, or the file of a path.

    Raises:
        TypeError: If it is neither text nor a path.
    """
    if isinstance(html, os.PathLike):
        return _existing(html, "html", HTML)
    if not isinstance(html, str):
        raise TypeError(f"HTML is text or a Path, not {type(html).__name__}")
    return MediaFile(kind="html", suffix=".html", data=safe_text(str.__str__(html)).encode())


def artifact_file(path: Any, *, link: bool) -> MediaFile:
    """Return any file.

    Raises:
        TypeError: If it is not a path.
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a regular file.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, not {type(path).__name__}")
    found = _existing(path, "artifact", ())
    return MediaFile(kind="artifact", suffix=found.suffix, source=found.source, link=link)


def _existing(path: str | os.PathLike[str], kind: str, suffixes: tuple[str, ...]) -> MediaFile:
    source = Path(os.fspath(path)).expanduser().absolute()
    if not source.exists():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    if not source.is_file():
        raise ValueError(f"{os.fspath(path)!r} is not a file; log each file of a directory, or an archive of it")
    suffix = source.suffix.lower()
    if suffixes and suffix not in suffixes:
        raise ValueError(f"{os.fspath(path)!r}: a file of {kind} ends in {', '.join(suffixes)}; log_artifact takes any")
    return MediaFile(kind=kind, suffix=suffix if suffix.isascii() and len(suffix) <= 16 else "", source=source)

"""Figures of every kind, under every name, without a display, a leak or a change to anyone's settings."""

import gc
import io
import json
import os
import subprocess
import sys
import unicodedata
import weakref

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from ridgepole.loggers.figures.names import file_stem
from ridgepole.loggers.figures.render import to_pixels
from ridgepole.permanences import BasicLogger


def media(directory):
    return [json.loads(line) for line in (directory / "media.jsonl").read_text().splitlines()]


def picture(directory, index=-1):
    with Image.open(directory / media(directory)[index]["file"]) as image:
        return np.asarray(image)


@pytest.fixture
def logger(tmp_path):
    with BasicLogger(tmp_path) as logger:
        yield logger


def test_a_matplotlib_figure(logger, tmp_path):
    figure = Figure(figsize=(3, 2), dpi=50)
    figure.add_subplot().plot([1, 2])
    logger.log_metrics({"a": 1}, step=41)
    logger.log_figure("curve", figure)
    (entry,) = media(tmp_path)
    expected = io.BytesIO()
    figure.savefig(expected, format="png", bbox_inches="tight")
    width, height = Image.open(expected).size
    assert {key: entry[key] for key in ("seq", "step", "kind", "name", "width", "height")} == {
        "seq": 1, "step": 41, "kind": "figure", "name": "curve", "width": width, "height": height}  # fmt: skip
    assert entry["file"].startswith("figures/curve-")
    assert entry["file"].endswith("_41.png")
    assert entry["bytes"] == (tmp_path / entry["file"]).stat().st_size
    assert picture(tmp_path).tobytes() == np.asarray(Image.open(expected)).tobytes()


def test_axes_and_seaborn_grids_stand_for_their_figure(logger, tmp_path):
    axes = Figure(figsize=(1, 1), dpi=40).add_subplot()
    logger.log_figure("axes", axes)
    logger.log_figure("figure", axes.figure)
    one, two = (tmp_path / entry["file"] for entry in media(tmp_path))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("array", "corner"),
    [
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 16]]), [0, 16]),
        (np.array([[-1.0, 0.0, 1.0]]), [0, 128, 255]),
        (np.array([[0, 1000]]), [0, 255]),
        (np.array([[np.nan, 1.0, np.inf]]), [0, 255, 0]),
        (torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16, requires_grad=True), [0, 255]),
        (np.array([[7.0, 7.0]]), [0, 0]),
        (np.array([[-1e308, 1e308]]), [0, 255]),
    ],
)
def test_arrays_become_pixels(logger, tmp_path, array, corner):
    logger.log_figure("image", array)
    assert picture(tmp_path)[0].tolist() == corner


@pytest.mark.parametrize(
    ("shape", "pixels"), [((5, 6), (5, 6)), ((5, 6, 1), (5, 6)), ((5, 6, 3), (5, 6, 3)), ((5, 6, 4), (5, 6, 4)),
                          ((3, 5, 6), (5, 6, 3)), ((1, 5, 6), (5, 6)), ((3, 3, 3), (3, 3, 3))]
)  # fmt: skip
def test_shapes(shape, pixels):
    assert to_pixels(np.zeros(shape)).shape == pixels


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "HSV", "F", "I;16"])
def test_images_of_every_mode_and_the_image_stays_open(logger, tmp_path, mode):
    image = Image.new(mode, (4, 3))
    logger.log_figure("image", image)
    assert picture(tmp_path).shape[:2] == (3, 4)
    image.load()


@pytest.mark.parametrize("figure", ["text", 3, None, object(), [1, 2], {"a": 1}])
def test_an_unknown_type_is_refused(logger, tmp_path, figure):
    with pytest.raises(TypeError, match="can't be logged as a figure; give a matplotlib"):
        logger.log_figure("x", figure)
    assert not (tmp_path / "media.jsonl").exists()


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2)), np.zeros(4), np.zeros((0, 4)), np.zeros((1, 2, 5, 5))])
def test_a_shape_that_is_no_image(logger, array):
    with pytest.raises(ValueError, match="of shape"):
        logger.log_figure("x", array)


def test_a_figure_that_cannot_be_drawn_is_reported_and_not_fatal(logger, tmp_path, capfd):
    figure = plt.figure()
    figure.text(0, 0, r"$\nosuchcommand$")
    logger.log_figure("broken", figure)
    logger.log_figure("whole", np.zeros((2, 2)))
    assert "the figure 'broken' could not be drawn: ValueError" in capfd.readouterr().err
    assert [entry["name"] for entry in media(tmp_path)] == ["whole"]
    assert len(list((tmp_path / "figures").iterdir())) == 1
    assert logger.get_state()["dropped"] == 1
    assert plt.get_fignums() == []


def test_settings_backend_and_canvas_stay_as_they_are(logger):
    backend, before = mpl.get_backend(), dict(mpl.rcParams)
    figure = Figure()
    canvas = figure.canvas
    logger.log_figure("x", figure)
    logger.log_seaborn_graph("y", [1, 2, 3])
    assert figure.canvas is canvas
    assert mpl.get_backend() == backend
    assert dict(mpl.rcParams) == before


def bare(size=(2, 1)):
    """A figure whose only axes fill it, so that tight borders are those of the figure."""
    figure = Figure(figsize=size, dpi=100)
    figure.add_axes((0, 0, 1, 1)).set_xlim(0, 1)
    figure.axes[0].tick_params(labelbottom=False, labelleft=False, length=0)
    return figure


def test_savefig_settings_of_that_moment_are_obeyed(logger, tmp_path):
    logger.log_figure("default", bare())
    with mpl.rc_context({"savefig.dpi": 50, "savefig.pad_inches": 0.5, "savefig.facecolor": "red"}):
        logger.log_figure("red", bare())
    plain, red = (np.asarray(Image.open(tmp_path / entry["file"]).convert("RGB")) for entry in media(tmp_path))
    assert red.shape[1] == pytest.approx(50 * (2 + 2 * 0.5), abs=2)
    assert tuple(red[3, 3]) == (255, 0, 0)
    assert tuple(plain[3, 3]) == (255, 255, 255)


def test_a_legend_beside_the_axes_is_not_cut_off(logger, tmp_path):
    figure = bare()
    figure.axes[0].plot([0, 1], label="a long label of a curve that has a lot to say")
    figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
    logger.log_figure("x", figure)
    assert media(tmp_path)[0]["width"] > 400


def test_the_logger_closes_what_it_is_given(logger):
    mine, given = plt.figure(), plt.figure()
    logger.log_figure("kept", mine, close=False)
    assert plt.get_fignums() == [mine.number, given.number]
    logger.log_figure("given", given)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


torture = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=[pytest.mark.torture, torture])])
def test_many_figures_leave_none_behind(logger, tmp_path, count):
    alive = weakref.WeakSet()
    for i in range(count):
        figure = plt.figure(figsize=(1, 1), dpi=20)
        alive.add(figure)
        logger.log_figure("same", figure, step=i // 20)
    del figure
    logger.flush()  # the last few may still wait to be drawn
    gc.collect()
    assert plt.get_fignums() == []
    assert len(alive) == 0, f"{len(alive)} figures are still alive"
    files = [entry["file"] for entry in media(tmp_path)]
    assert len(set(files)) == count
    assert sorted(files) == sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "figures").iterdir())


def test_the_same_name_at_the_same_step(logger, tmp_path):
    for shade in (0, 1, 2):
        logger.log_figure("a b", np.full((1, 1), shade))
    stem = file_stem("a b", 0)
    assert [entry["file"] for entry in media(tmp_path)] == [
        f"figures/{stem}.png", f"figures/{stem}-2.png", f"figures/{stem}-3.png"]  # fmt: skip
    assert [picture(tmp_path, i)[0, 0] for i in range(3)] == [0, 1, 2]


EVIL = ["../x", "/abs/olute", "..", ".", "a\0b", "🔥", "x" * 300, "Loss", "loss", "a/b", "a\\b", "-rf", "con", " ",
        "\n", "a_1", "a", "é", "e\u0301", ".hidden", "%2e%2e", "</script><img onerror=1>",
        "a" * 79 + "/", "~"]  # fmt: skip


def test_evil_names_are_kept_apart_and_none_escapes(logger, tmp_path):
    pixel = np.zeros((1, 1), np.uint8)
    for name in EVIL:
        logger.log_figure(name, pixel)
    entries = media(tmp_path)
    assert [entry["name"] for entry in entries] == EVIL
    files = [entry["file"] for entry in entries]
    assert len({file.casefold() for file in files}) == len(EVIL)
    assert all((tmp_path / file).resolve().parent == tmp_path.resolve() / "figures" for file in files)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "figures", "media.jsonl", "metrics.jsonl", "run.log", "summary.json"}  # fmt: skip


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(text, st.integers(0, 2**63 - 2))
def test_any_name_gives_a_harmless_file_name(name, step):
    stem = file_stem(name, step)
    assert all(unicodedata.category(letter)[0] in "LMN" or letter in "-_" for letter in stem)
    assert stem[0] != "-"
    assert unicodedata.normalize("NFC", stem) == stem
    assert len(stem.encode()) + len("-99999.parquet") <= 143, "the shortest limit of a common filesystem (ecryptfs)"


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("損失曲線", "損失曲線"),
        ("학습 손실", "학습-손실"),
        ("Потери/эпоха", "Потери-эпоха"),
        ("हिन्दी", "हिन्दी"),
        ("cafe\u0301", "caf\u00e9"),
        ("🚀", "figure"),
        ("損" * 100, "損" * 26),
    ],
)
def test_names_of_any_script_are_readable(name, readable):
    stem, _, digest = file_stem(name, 7).rpartition("-")
    assert (stem, digest[-2:]) == (readable, "_7")


def test_a_locale_without_these_letters_gets_the_others(monkeypatch):
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("latin-1"))
    assert file_stem("損失 loss", 0).startswith("loss-")


def test_the_hundredth_figure_of_a_name_is_not_searched_for(logger, tmp_path, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *args, **kwargs: (opened.append(args[0]), real(*args, **kwargs))[1])
    for _ in range(100):
        logger.log_image("same", np.zeros((2, 2), np.uint8))
    assert len([path for path in opened if "figures" in str(path)]) == 100
    assert len({entry["file"] for entry in media(tmp_path)}) == 100


def test_files_that_another_logger_wrote_are_not_overwritten(tmp_path):
    for _ in range(2):
        with BasicLogger(tmp_path) as logger:
            for _ in range(3):
                logger.log_image("same", np.zeros((2, 2), np.uint8))
    assert len({entry["file"] for entry in media(tmp_path)}) == 6


@given(text, text)
def test_two_names_never_share_a_file(one, other):
    if one != other:
        assert file_stem(one, 0).casefold() != file_stem(other, 0).casefold()


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), (3, TypeError), (None, TypeError), ("\ud800", TypeError)]
)
def test_what_is_no_name(logger, name, error):
    with pytest.raises(error, match="name"):
        logger.log_figure(name, np.zeros((1, 1)))


def test_a_link_in_the_folder_is_not_followed(logger, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / f"{file_stem('x', 0)}.png").symlink_to(canary)
    logger.log_figure("x", np.zeros((1, 1)))
    assert canary.read_text() == "untouched"
    assert media(tmp_path)[0]["file"].endswith("-2.png")


def test_without_a_display_and_with_a_window_backend(tmp_path):
    script = (
        "import sys, matplotlib.pyplot as plt\nfrom matplotlib.figure import Figure\n"
        "from ridgepole.permanences import BasicLogger\n"
        "with BasicLogger(sys.argv[1]) as logger:\n"
        "    logger.log_figure('a', Figure())\n"
        "    logger.log_seaborn_graph('b', [1, 2, 3])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment | {"MPLBACKEND": "TkAgg"}, capture_output=True,
        text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(media(tmp_path)) == 2


def test_a_plotly_figure(logger, tmp_path):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    logger.log_figure("p", graph_objects.Figure(graph_objects.Scatter(y=[1, 2])))
    assert media(tmp_path)[0]["file"].endswith((".png", ".html"))

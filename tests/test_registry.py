"""Which names a pipeline's file may use, and where they are found."""

import json
import sys
import uuid

import pytest

from ridgepole.extras import install_command
from ridgepole.permanences import BasicLogger
from ridgepole.registry import Registry

NET = "from ridgepole import Permanence\nclass {name}(Permanence):\n    def cleanup(self): pass\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package with a name that no other test has, and takes it out of Python again."""
    name = f"pkg_{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(**files):
        (tmp_path / name).mkdir(exist_ok=True)
        for file, text in ({"__init__": ""} | files).items():
            target = tmp_path / name / f"{file.replace('.', '/')}.py"
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        return Registry.load(name, tmp_path)

    write.name = name
    yield write
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def test_built_in_types_need_no_package(tmp_path):
    registry = Registry.load(None, tmp_path)
    assert registry.find("permanence", "BasicLogger").target is BasicLogger
    assert registry.find("process", "BasicLogger") is None
    assert {"Device", "ProgressManager", "BasicLogger"} <= set(registry.names("permanence"))


def test_the_package_and_its_public_submodules(package):
    registry = package(
        __init__=NET.format(name="Top"),
        nets=NET.format(name="Inner"),
        _hidden=NET.format(name="Hidden"),
        **{"deep.__init__": "", "deep.er": "from ridgepole import process\n@process\ndef train(): pass\n"},
    )
    assert registry.problems == []
    assert set(registry.own["permanence"]) == {"Top", "Inner"}
    assert set(registry.own["process"]) == {"train"}


def test_what_does_not_count(package):
    registry = package(
        nets=(
            "from abc import abstractmethod\nfrom ridgepole import Permanence, PipelineProcess, process\n"
            "from ridgepole.permanences import Device\n"
            "class _Private(Permanence):\n    def cleanup(self): pass\n"
            "class Abstract(Permanence):\n    pass\n"
            "class AbstractStep(PipelineProcess):\n    pass\n"
            "def plain(): pass\n"
            "class Other: pass\n"
        )
    )
    assert registry.own == {"permanence": {}, "process": {}}


def test_exported_twice_is_not_defined_twice(package):
    registry = package(__init__=f"from {package.name}.nets import Net", nets=NET.format(name="Net"))
    assert registry.problems == []
    assert set(registry.own["permanence"]) == {"Net"}


def test_defined_twice_names_both_places(package):
    (problem,) = package(a=NET.format(name="Net"), b=NET.format(name="Net")).problems
    assert problem.message.startswith("the permanence type 'Net' is defined twice: in ")
    assert "a.py:2" in problem.message
    assert "b.py:2" in problem.message


def test_a_built_in_name_is_taken(package):
    (problem,) = package(a=NET.format(name="Device")).problems
    assert "'Device' is defined twice: in Ridgepole and in " in problem.message


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("a.b", "package must be one Python identifier, not 'a.b'", "name the package, not a path"),
        ("class", "package must be one Python identifier, not 'class'", "name the package, not a path"),
        ("nets", "no package 'nets' beside the pipeline's file", "did you mean 'net'?"),
    ],
)
def test_packages_that_cannot_be(name, message, hint, tmp_path):
    (tmp_path / "net.py").write_text("")
    (problem,) = Registry.load(name, tmp_path).problems
    assert message in problem.message
    assert problem.hint == hint


def test_a_name_that_is_taken_by_another_module(tmp_path):
    (tmp_path / "json.py").write_text("")
    (problem,) = Registry.load("json", tmp_path).problems
    assert problem.message == f"package 'json' is already imported from {json.__file__}"
    assert problem.hint == "rename the pipeline's package"


@pytest.mark.parametrize("raised", ["SystemExit(3)", "ValueError('x')", "ImportError('no such thing')"])
def test_a_module_that_raises(raised, package):
    (problem,) = package(broken=f"raise {raised}").problems
    assert f"package '{package.name}' failed to import: {raised.partition('(')[0]}" in problem.message
    assert "broken.py" in problem.detail


def test_unknown_names_say_where_was_looked(package):
    registry = package(nets=NET.format(name="Network"))
    problem = registry.unknown("permanence", "Netwrk", None)
    assert problem.hint == "did you mean 'Network'?"
    assert f"the package '{package.name}'" in problem.detail
    assert registry.unknown("process", "Network", None).hint == "'Network' is a permanence"


def test_a_plugin_is_found_by_its_entry_point(ridgepole, tmp_path):
    plugin = tmp_path / "site"
    (plugin / "plug-1.0.dist-info").mkdir(parents=True)
    (plugin / "plug-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (plugin / "plug-1.0.dist-info" / "entry_points.txt").write_text(
        "[ridgepole.permanences]\nPlugged = plug:Plugged\n[ridgepole.processes]\nhello = plug:hello\n"
    )
    (plugin / "plug.py").write_text(
        NET.format(name="Plugged") + "from ridgepole import process\n"
        "@process\ndef hello(plugged: Plugged, word: str): print('plugin says', word)\n"
    )
    (tmp_path / "p.toml").write_text(
        '[permanences.plugged]\ntype = "Plugged"\n[processes.hello]\ntype = "hello"\nword = "hi"\n'
    )
    done = ridgepole("run", "p.toml", PYTHONPATH=str(plugin))
    assert done.returncode == 0, done.stderr
    assert "plugin says hi" in done.stdout
    assert "no permanence type is called 'Plugged'" in ridgepole("check", "p.toml").stderr


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "torch"), ("numpy", "torch"), ("seaborn", "plots"), ("submitit", "slurm")]
)
def test_a_missing_package_that_an_extra_installs_says_so(module, extra, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (problem,) = package(__init__=f"import {module}\n").problems
    assert f"import of {module} halted" in problem.message
    assert problem.hint == install_command(extra)


def test_another_import_that_fails_has_no_such_hint(package):
    (problem,) = package(__init__="from sys import torch\n").problems
    assert problem.hint == ""

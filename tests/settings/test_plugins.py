"""Methods from outside: what the user has installed or named is trusted, and nothing else."""

import sys

import pytest
import yaml

from seven_bench.errors import ConfigError
from seven_bench.settings import conf, packages
from seven_bench.settings.building import build_score, targets
from seven_bench.settings.checks import stored
from seven_bench.settings.conf import choice, conf_sources, declare, names_of
from seven_bench.settings.identity import identify, method_part
from seven_bench.store.files import CONFIG

SCORE = """
from seven_bench.pruning import Params, Score


class MineScore(Score):
    def __init__(self, sign: float = -1.0) -> None:
        self.sign = sign

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: self.sign * p.detach().float().abs() for name, p in params.items()}


def other() -> None: ...
"""
PRUNER = """# Mine.
name: mine
timing: before
needs: [weights]
score: {_target_: my_pkg.scores.MineScore}
schedule: {_target_: seven_bench.pruning.OneShot}
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with a package `my_pkg` and its conf/, on Python's path."""
    folder = tmp_path / "outside"
    (folder / "my_pkg/conf/pruner").mkdir(parents=True)
    (folder / "my_pkg/__init__.py").touch()
    (folder / "my_pkg/scores.py").write_text(SCORE)
    (folder / "my_pkg/conf/pruner/mine.yaml").write_text(PRUNER)
    monkeypatch.syspath_prepend(str(folder))
    packages.version_of.cache_clear()
    yield folder
    conf.plugged_in.cache_clear()
    packages.version_of.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_pkg"]:
        del sys.modules[name]


@pytest.fixture
def installed(outside):
    """The same with an entry point, as an installer leaves it."""
    info = outside / "my_pkg-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pkg\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[seven_bench.methods]\nmine = my_pkg\n")
    conf.plugged_in.cache_clear()
    return outside


def mine(make_config, **node):
    """Settings of a run with the method, as they would be composed."""
    pruner = {**yaml.safe_load(PRUNER), "distribution": "global", **node}
    return make_config("pruner=magnitude", "logger=none").changed(pruner=pruner)


def test_an_installed_one_joins_by_its_entry_point(installed, make_config):
    assert [source.origin for source in conf_sources()] == ["", "my-pkg 1.5"]
    assert "mine" in names_of("pruner") and choice("pruner/mine")["timing"] == "before"
    assert "my_pkg.scores.MineScore" in targets("score") - targets("schedule")
    settings = mine(make_config)
    assert type(build_score(settings.pruner)).__name__ == "MineScore"
    assert method_part(settings)["pruner.versions.my_pkg"] == "1.5"


def test_its_version_is_part_of_the_id_and_no_version_of_others_is(installed, make_config):
    first, plain = identify(mine(make_config)), identify(make_config("pruner=snip"))
    (installed / "my_pkg-1.5.dist-info/METADATA").write_text("Name: my-pkg\nVersion: 1.6\n")
    packages.version_of.cache_clear()
    assert identify(mine(make_config)).run_id != first.run_id
    assert identify(make_config("pruner=snip")) == plain


def test_one_that_is_only_on_the_path_is_known_by_its_code(outside, make_config):
    folder = outside / "my_pkg/conf"
    declare([folder], ["my_pkg"])
    first = identify(mine(make_config)).run_id
    assert packages.version_of("my_pkg").startswith("files-")
    (outside / "my_pkg/scores.py").write_text(SCORE + "\n")
    packages.version_of.cache_clear()
    assert identify(mine(make_config)).run_id != first


def test_a_folder_alone_names_no_class(outside, make_config):
    folder = outside / "my_pkg/conf"
    told = "_target_=my_pkg.scores.MineScore: allowed is .* plugins=.my_pkg. makes that"
    for given in ((), ("seven_bench",)):
        declare([folder], given)
        with pytest.raises(ConfigError, match=told):
            build_score(mine(make_config).pruner)
    declare([folder], ["my_pkg"])
    build_score(mine(make_config).pruner)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"score": {"_target_": "my_pkg.scores.other"}}, "did you mean"),
        ({"score": {"_target_": "my_pkg.scores.MineScore.scores"}}, "did you mean"),
        ({"score": {"_target_": "my_pkg.scores.MineScore", "sign": "x"}}, "sign=x: allowed is"),
        ({"score": {"_target_": "my_pkg.scores.MineScore", "odd": 1}}, "odd: no such key"),
        ({"schedule": {"_target_": "my_pkg.scores.MineScore"}}, "pruner.schedule._target_"),
    ],
)
def test_a_run_folder_can_name_nothing_that_the_plugin_does_not(
    installed, make_config, tmp_path, node, told
):
    (tmp_path / CONFIG).write_text(yaml.safe_dump(mine(make_config, **node).plain()))
    with pytest.raises(ConfigError, match=told):
        build_score(stored(tmp_path).pruner)


def test_a_plugin_adds_targets_of_its_own_packages_alone(installed):
    file = installed / "my_pkg/conf/pruner/evil.yaml"
    file.write_text("name: evil\nscore: {_target_: torch.load}\n")
    assert not [name for name in targets() if name.startswith("torch.")]


def test_what_is_not_there_or_stands_elsewhere_is_said(outside, caplog):
    folder = outside / "my_pkg/conf"
    for given, told in (
        (([outside / "nowhere"], ()), "--config-dir .*nowhere: no such folder"),
        (([folder], ["my_pgk"]), "plugins=my_pgk: no such package on Python's path"),
    ):
        with pytest.raises(ConfigError, match=told):
            declare(*given)
    (folder / "pruner/snip.yaml").write_text(PRUNER)
    with pytest.raises(ConfigError, match="pruner/snip: seven_bench has a file of that name"):
        declare([folder], ["my_pkg"])


def test_a_broken_plugin_is_named_and_left_out(installed, caplog):
    (installed / "my_pkg/conf/pruner/snip.yaml").write_text(PRUNER)
    assert len(conf_sources()) == 1
    assert "left out: my-pkg 1.5: pruner/snip: seven_bench has a file" in caplog.text

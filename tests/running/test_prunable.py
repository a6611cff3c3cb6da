"""What a run may remove, from its settings to its weights."""

import pytest
import torch

from seven_bench.errors import ConfigError
from seven_bench.running.scope import prunable
from seven_bench.settings.building import build
from seven_bench.settings.identity import dense_start
from seven_bench.settings.model import Settings
from seven_bench.settings.node import read

FC1 = 4 * 64 * 256  # of four layers


def size_of(settings):
    with torch.device("meta"):
        model = build(settings.model.build)
    return sum(p.numel() for p in prunable(settings, model).values())


def test_a_pattern_takes_the_place_of_the_encoders_weights(make_config):
    pattern = make_config("prunable.pattern='mlp.fc1'")
    assert size_of(pattern) == FC1
    assert size_of(make_config()) == size_of(dense_start(pattern)) == 3 * FC1
    both = make_config("prunable.pattern='mlp.fc1'", "prunable.include=[patch_embedding]")
    assert size_of(both) == FC1 + 64 * 4 * 4


def test_what_is_written_is_read_as_it_was(make_config):
    for given, written in (
        ((), []),
        (("prunable.include=[patch_embedding]",), ["patch_embedding"]),
        (("prunable.pattern=fc1",), {"include": [], "pattern": "fc1"}),
    ):
        settings = make_config("start=init", *given)
        assert settings.plain()["prunable"] == written
        assert read(Settings, settings.plain()) == settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("prunable.pattern='('", r"prunable.pattern=\(: allowed is a regular expression"),
        ("prunable.pattern=3", "prunable.pattern=3: allowed is a text"),
        ("prunable=3", "prunable=3: allowed are the keys include, pattern"),
        ("prunable.include=[head]", "prunable.include=head: allowed is a list of pooler"),
    ],
)
def test_what_is_none_is_refused(make_config, given, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        make_config("start=init", given)

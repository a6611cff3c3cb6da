"""What makes two runs the same run."""

import pytest

from seven_bench.errors import ConfigError
from seven_bench.settings.building import check_targets, targets
from seven_bench.settings.conf import conf_dir
from seven_bench.settings.identity import dense_start, identify, method_part, recipe_part
from seven_bench.settings.node import by_role
from seven_bench.settings.renamed import RENAMED

KNOWN = {  # a change here renames everybody's runs: use the ledger of identity.py instead
    "": "digits/vit_digits/seven_dyn/s0.9/seed0-61b355bf",
    # The epoch that was measured before the last one was.
    "select=best": "digits/vit_digits/seven_dyn/s0.9/seed0-fb1e3a52",
    "select=best pruner=snip sparsity=0.95 seed=3": "digits/vit_digits/snip/s0.95/seed3-d9b9c10e",
    "select=best pruner=dense start=init": "digits/vit_digits/dense/s0/seed0-9657f9a5",
    "pruner=wanda pattern=nm_2_4 sparsity=0.5": "digits/vit_digits/wanda/s0.5/seed0-50538af8",
    "pruner=lth sparsity=0.5 finetune.distill=true": "digits/vit_digits/lth/s0.5/seed0-a8359b86",
    "pruner=snip finetune=llrd control=shuffle start=init": (
        "digits/vit_digits/snip/s0.9/seed0-95a63333"
    ),
    "pruner=rigl prunable.include=[patch_embedding]": (
        "digits/vit_digits/rigl/s0.9/seed0-6c94bb0a"
    ),
    "pruner=grasp model=tiny_vit start=init": "digits/tiny_vit/grasp/s0.9/seed0-cdd851dc",
}


def run_id(make_config, *overrides):
    return identify(make_config(*overrides)).run_id


def test_ids_of_known_configs_stay(make_config):
    for overrides, known in KNOWN.items():
        assert run_id(make_config, *overrides.split()) == known


@pytest.mark.parametrize(
    "override",
    ["logger=none", "suite=other", "progress=false", "dry_run=true", "shard=1/2", "data_root=x"],
)
def test_what_decides_no_result_does_not_enter(make_config, override):
    assert run_id(make_config, override) == run_id(make_config)


@pytest.mark.parametrize(
    "override",
    ["seed=1", "sparsity=0.8", "trainer.lr=1e-4", "trainer.threads=2", "pruner=snip", "start=init",
     "start.train.lr=1e-4", "pruner.score.a1=0.7", "select=best",
     "prunable.include=[patch_embedding]", "prunable.pattern=fc1"],
)  # fmt: skip
def test_what_decides_the_result_enters(make_config, override):
    assert run_id(make_config, override) != run_id(make_config)


def test_a_cell_is_a_run_without_its_seed(make_config):
    zero, one = (identify(make_config(f"seed={seed}")) for seed in (0, 1))
    other = identify(make_config("seed=0", "sparsity=0.5"))
    assert zero.cell_id == one.cell_id != other.cell_id
    assert zero.run_id != one.run_id


def test_sums_that_differ_in_the_last_bit_are_one_sparsity(make_config):
    assert run_id(make_config, f"sparsity={0.1 + 0.2}") == run_id(make_config, "sparsity=0.3")


def test_a_method_keeps_the_name_that_it_had_first(make_config):
    """In ids and records; a run folder may say either, and nothing that was never a name."""
    node = {"_target_": "baselines.snip.SnipScore"}
    config = make_config("pruner=snip", "logger=none")
    assert config.pruner.score.path == "seven_bench.baselines.snip.SnipScore"
    assert method_part(config)["pruner.score._target_"] == "baselines.snip.SnipScore"
    assert config.changed(pruner__score=node) == config
    for name in ("baselines.snip.run", "baselines.snip", "baselines.small.SmallScore"):
        changed = config.changed(pruner__score={"_target_": name})
        with pytest.raises(ConfigError, match="allowed is what a file of the installed"):
            check_targets(changed)


def test_every_former_name_is_one_of_today():
    assert len(RENAMED) == 14 and set(RENAMED.values()) <= targets("score")


def test_other_data_is_another_run(make_config, tmp_path):
    ids = []
    for content in (b"one", b"two", b"one"):
        root = tmp_path / f"data{len(ids)}" / "cifar10"
        root.mkdir(parents=True)
        for split in ("train", "test"):
            (root / f"{split}.parquet").write_bytes(content)
        ids.append(
            run_id(make_config, "task=cifar10", "model=vit_tiny", f"data_root={root.parent}")
        )
    assert ids[0] != ids[1]
    assert ids[0] == ids[2]  # the same images from another folder


def without(name):
    """The settings as they were before a key of trainer came."""

    def part(settings, roles):
        found = by_role(settings, roles)
        found["trainer"].pop(name)
        return found

    return part


def test_the_ledger_drops_a_new_key_at_its_old_value(make_config, monkeypatch):
    import seven_bench.settings.identity as identity

    config = make_config()
    old = identify(config).run_id
    ledger = {**identity.LEDGER, "trainer.accumulate": 1}  # as if it were new
    monkeypatch.setattr(identity, "LEDGER", ledger)
    assert identify(config).run_id != old
    before = identify(config).run_id
    monkeypatch.setattr(identity, "by_role", without("accumulate"))
    assert identify(config).run_id == before
    monkeypatch.setattr(identity, "by_role", by_role)
    assert identify(config.changed(trainer__accumulate=2)).run_id != before


@pytest.mark.parametrize(
    "override",
    ["trainer.lr=1e-4", "trainer.gradient_clip=null", "start.train.lr=1e-4", "finetune=bitfit",
     "finetune.distill=true"],
)  # fmt: skip
def test_a_recipe_is_what_decides_and_is_no_column(make_config, override):
    plain, other = (recipe_part(make_config(*given)) for given in ((), (override,)))
    column = override == "finetune=bitfit"
    assert (plain == other) is column
    key = override.partition("=")[0]
    assert column or plain.get(key) != other[key]


def test_a_method_a_column_and_a_seed_are_no_recipe(make_config):
    given = ("seed=3", "sparsity=0.5", "pruner=snip", "prunable.pattern=fc1", "select=best")
    assert recipe_part(make_config()) == recipe_part(make_config(*given))
    assert method_part(make_config()) != method_part(make_config("pruner.score.a1=0.7"))
    assert "trainer.lr" not in method_part(make_config())


def test_no_method_sets_the_recipe(make_config):
    """A preset that trained in its own way would leave the table of all others."""
    methods = sorted(path.stem for path in (conf_dir() / "pruner").glob("*.yaml"))
    assert len(methods) > 30
    plain = recipe_part(make_config("pruner=dense"))
    assert [name for name in methods if recipe_part(make_config(f"pruner={name}")) != plain] == []


def test_other_data_is_another_recipe(make_config):
    assert len(recipe_part(make_config())["task.data_fingerprint"]) > 6


def test_named_seeds_make_runs_of_one_cell(make_config):
    given = ("pruner=snip",)
    plain = identify(make_config(*given))
    for override in ("calibration.seed=1", "data.split_seed=1"):
        other = identify(make_config(*given, override))
        assert other.run_id != plain.run_id and other.cell_id == plain.cell_id
        assert recipe_part(make_config(*given, override)) == recipe_part(make_config(*given))


def test_a_seed_of_calibration_that_changes_nothing_makes_no_other_run(make_config):
    assert run_id(make_config, "pruner=snip", "seed=2", "calibration.seed=2") == run_id(
        make_config, "pruner=snip", "seed=2"
    )
    for shown_nothing in ("pruner=magnitude", "pruner=dense"):
        assert run_id(make_config, shown_nothing, "calibration.seed=1") == run_id(
            make_config, shown_nothing
        )


def test_a_start_follows_the_split_and_not_the_calibration(make_config):
    def start(*overrides):
        return identify(dense_start(make_config("pruner=snip", *overrides))).run_id

    assert start("calibration.seed=1") == start() != start("data.split_seed=1")

"""What a plan says of a run, against arithmetic."""

import pytest

from seven_bench.running import dry_run
from seven_bench.running.dry_run import Past, estimate


@pytest.mark.parametrize(
    ("method", "optimizer", "state", "score"),
    [
        ("dense", "adamw", 8, 0),
        ("seven_dyn", "sgd", 4, 17),
        ("obert_one_shot", "adamax", 8, 4 * (50 + 16) + 5),
    ],
)
def test_memory_is_weights_gradients_and_the_state_of_optimizer_and_score(
    make_config, method, optimizer, state, score
):
    settings = make_config(f"pruner={method}", f"trainer.optimizer={optimizer}", "start=init")
    plan = estimate(settings, {})
    assert plan.prunable == 196_608
    weights = 196_608 + sum(
        (
            64 * 16 + 64,  # patch embedding of 4 x 4 pixels
            5 * 64 + 64,  # places, and the class token
            4 * (2 * 2 * 64 + (3 + 1 + 4 + 1) * 64),  # norms and biases of four blocks
            2 * 64 + 64 * 10 + 10,  # last norm and head
        )
    )
    assert plan.memory == weights * (8 + state) + 196_608 * score


def test_models_are_counted_once(make_config, monkeypatch, tmp_path):
    """Of a suite, and of later plans too, until the program is another."""
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path))
    built, real = [], dry_run.run_model

    def build(settings):
        built.append(settings.pruner.name)
        return real(settings)

    monkeypatch.setattr(dry_run, "run_model", build)
    given = [("snip", 0.5), ("snip", 0.9), ("gmp", 0.9), ("dense", 0.9)]
    suite = [make_config("start=init", f"pruner={m}", f"sparsity={s}") for m, s in given]

    def plan():
        past = Past()
        return [estimate(settings, {}, past) for settings in suite]

    first = plan()
    assert built == ["snip", "dense"]  # of which all may stay: another count
    assert plan() == first and len(built) == 2
    monkeypatch.setattr(dry_run, "_program", lambda: "another")
    assert plan() == first and len(built) == 4

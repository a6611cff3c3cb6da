"""Scores that lie: each is one line that names the method, and never a mask."""

import pytest
import torch

from seven_bench.pruning import Cubic, MaskSet, OneShot, Score
from seven_bench.pruning.pruner import Method, Pruner

SHAPE = (2, 3)


class Lying(Score):
    """Gives |w| as `change` leaves it; `change` may do what it likes to the weights too."""

    def __init__(self, change, weights=None):
        self.change, self.weights = change, weights

    def scores(self, params, masks):
        return self.change({n: p.detach().abs() for n, p in params.items()}, params, masks)

    def update_weights(self, params, masks, new_masks):
        return None if self.weights is None else self.weights(dict(params))


def pruner_of(score, cut="exact", schedule=None):
    torch.manual_seed(0)
    params = {name: torch.nn.Parameter(torch.randn(SHAPE)) for name in ("a", "b")}
    schedule = schedule or OneShot()
    method = Method(score, schedule, 0.5, cut=cut, name="liar")
    return Pruner(method, schedule.plan(1, 1), params, torch.Generator()), params


def halve(params):
    with torch.no_grad():
        for weight in params.values():
            weight.mul_(0.5)


def each(change):
    """Alters every score."""
    return lambda scores, *_: {name: change(score) for name, score in scores.items()}


def only_b(change):
    return lambda scores, *_: {**scores, "b": change(scores["b"])}


LIES = {
    "transposed": (each(lambda s: s.T), r"scores of a have the shape \(3, 2\), the weight's is"),
    "flat": (each(lambda s: s.reshape(-1)), r"shape \(6,\)"),
    "one_number": (only_b(lambda s: s.sum()), r"scores of b have the shape \(\)"),
    "complex": (only_b(lambda s: s.to(torch.complex64)), "scores of b are complex64, not floating"),
    "integer": (each(lambda s: s.long()), "scores of a are int64, not floating"),
    "bool": (each(lambda s: s > 0), "scores of a are bool, not floating"),
    "array": (each(lambda s: s.numpy()), "scores of a are of type ndarray, not a tensor"),
    "none": (lambda *_: None, "its scores are None"),
    "none_inside": (only_b(lambda s: None), "scores of b are None"),
    "list": (lambda scores, *_: list(scores.values()), "its scores are of type list"),
    "missing": (lambda scores, *_: {"a": scores["a"]}, "it gave no scores for b"),
    "extra": (lambda scores, *_: {**scores, "c": scores["a"]}, "it gave scores for c"),
    "empty": (lambda *_: {}, "it gave no scores for a"),
    "not_a_number": (only_b(lambda s: s * float("nan")), "scores of b are not finite"),
    "infinite": (only_b(lambda s: s / 0), "scores of b are not finite"),
    "elsewhere": (each(lambda s: s.to("meta")), "scores of a are on meta, the weight on cpu"),
    "halving": (lambda s, params, _: halve(params) or s, "changes a in place"),
    "detached": (lambda s, params, _: params["b"].detach().mul_(2) is None or s, "changes b in pl"),
    "past_torch": (lambda s, p, _: p["b"].data.mul_(2) is None or s, "changes the weights in pl"),
    "masks": (lambda s, _, masks: masks["b"].fill_(False) is None or s, "changes b in place"),
}  # fmt: skip


@pytest.mark.parametrize("cut", ["exact", "above_zero"])
@pytest.mark.parametrize("lie", LIES)
def test_a_score_that_lies_is_an_error_that_names_its_method(lie, cut):
    change, said = LIES[lie]
    pruner, params = pruner_of(Lying(change), cut)
    before = pruner.masks
    with pytest.raises(ValueError, match=said) as error:
        pruner.advance(params)
    assert str(error.value).startswith("liar: ") and "\n" not in str(error.value)
    assert pruner.masks is before, "a mask came of it"


def test_a_score_without_a_method_is_named_by_its_class():
    score = Lying(lambda *_: None)
    pruner, _ = pruner_of(score)
    assert str(Method(score, OneShot(), 0.5)) == "Lying" and str(pruner.method) == "liar"


def test_the_order_of_keys_decides_nothing():
    """Ties go by the parameters' order, whatever order a score gives them in."""
    flat = {n: torch.ones(SHAPE) for n in ("b", "a")}
    pruner, params = pruner_of(Lying(lambda *_: flat))
    update = pruner.advance(params)
    assert list(update.masks) == ["a", "b"]
    assert update.masks["a"].all() and not update.masks["b"].any()


@pytest.mark.parametrize("group", ["params", "grads", "masks"])
def test_a_score_may_only_look_at_what_it_observes(group):
    class Meddling(Lying):
        def observe(self, seen):
            getattr(seen, group)["b"].detach().zero_()

    pruner, params = pruner_of(Meddling(lambda s, *_: s))
    with pytest.raises(ValueError, match="liar: its score changes b in place"):
        pruner.observe(params, {name: torch.ones(SHAPE) for name in params})


WEIGHTS = {
    "shape": (lambda w: {**w, "a": w["a"].T}, r"weights of a have the shape \(3, 2\)"),
    "type": (lambda w: {**w, "a": w["a"].double()}, "weights of a are float64, not float32"),
    "missing": (lambda w: {"b": w["b"]}, "it gave no weights for a"),
    "not_finite": (lambda w: {**w, "b": w["b"] / 0}, "weights of b are not finite"),
    "in_place": (lambda w: halve(w), "changes a in place"),
}


@pytest.mark.parametrize("lie", WEIGHTS)
def test_new_weights_are_checked_too(lie):
    weights, said = WEIGHTS[lie]
    pruner, params = pruner_of(Lying(lambda s, *_: s, weights))
    with pytest.raises(ValueError, match=f"liar: .*{said}"):
        pruner.advance(params)


def test_new_weights_are_copies():
    """What the score keeps of them is its own."""
    kept = {}
    pruner, params = pruner_of(Lying(lambda s, *_: s, lambda w: kept.update(w) or kept))
    update = pruner.advance(params)
    assert update.before.kept == 12 and update.masks.kept == 6
    assert all(torch.equal(update.weights[n], params[n]) for n in params)
    assert all(update.weights[n].data_ptr() != params[n].data_ptr() for n in params)


def test_a_weight_that_is_no_number_is_no_change():
    """Comparing samples must not take NaN for a write: the gradient's check names what diverged."""
    pruner, params = pruner_of(Lying(each(lambda s: torch.ones(SHAPE))), schedule=Cubic(every=1))
    params["a"].data.fill_(float("nan"))
    assert pruner.advance(params).masks.kept == 6
    assert isinstance(pruner.masks, MaskSet)

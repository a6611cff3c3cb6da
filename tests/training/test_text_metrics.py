"""The metrics of texts against the evaluations they stand for."""

import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from seven_bench.training.text import metric


@pytest.mark.parametrize("classes", [2, 3])
def test_matthews_is_that_of_glues_own_evaluation(classes):
    drawn = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (400,), generator=drawn)
    answers = torch.where(torch.rand(400, generator=drawn) < 0.6, labels, labels.flip(0))
    for answered in (answers, labels, torch.ones(400, dtype=torch.long)):  # the last: one class
        measured = metric("matthews", classes)
        measured.update(answered[:300], labels[:300])
        measured.update(answered[300:], labels[300:])
        expected = matthews_corrcoef(labels, answered)
        assert float(measured.compute()) == pytest.approx(expected, abs=1e-12)

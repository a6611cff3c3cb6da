"""Small tensors gain nothing from threads, and lose much where cores are busy.

A package whose tests are of this kind imports the fixture in its conftest.
"""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

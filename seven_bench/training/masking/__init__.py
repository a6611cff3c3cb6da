"""How masks act on the weights of a model under training: one file a way, behind one protocol."""

from seven_bench.training.masking.hard import Hard
from seven_bench.training.masking.protocol import Masking
from seven_bench.training.masking.regrow import Regrow
from seven_bench.training.masking.rewire import Rewire
from seven_bench.training.masking.straight_through import StraightThrough

#: By the names of `seven_bench.pruning.pruner.MASKING`.
WAYS: dict[str, type[Masking]] = {
    "hard": Hard,
    "rewire": Rewire,
    "regrow": Regrow,
    "straight_through": StraightThrough,
}
__all__ = ["WAYS", "Masking"]

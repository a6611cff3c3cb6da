"""One of several processes that prune and train the same tiny model: RANK WORLD FOLDER METHOD...,
a METHOD with a pattern after a colon, if it is to have another than its own.

Writes what `test_processes` compares: the mask hashes of every update, and the final masks.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist


def main(rank: int, world: int, folder: Path, methods: list[str]) -> None:
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ["NODE_RANK"] = "0"
        store = dist.FileStore(str(folder / "meeting"), world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    from seven_bench.running import scoring as module
    from seven_bench.testing.every_method import composed, train
    from seven_bench.training.context import Device

    updates: list[str] = []
    compare = module.same_update

    def watched(update):
        updates.append(update.masks.hash())
        compare(update)

    module.same_update = watched
    found = {}
    for method in methods:
        name, _, pattern = method.partition(":")
        config = composed(name, "sgd")
        if pattern:
            config = config.changed(pattern=pattern)
        # 7 leaves shares of 4 and 3, and a last batch of 4 of the 60 examples
        config = config.changed(trainer__batch_size=7)
        if (calibration := config.pruner.calibration) is not None:
            examples = 5 * calibration.examples
            config = config.changed(
                pruner__calibration__batch_size=5, pruner__calibration__examples=examples
            )
        updates.clear()
        done = train(config, "vit", device=Device("cpu", world))
        found[method] = {
            "updates": list(updates), "masks": dict(done.masks), "state": done.state,
            "losses": done.losses,
        }  # fmt: skip
    torch.save(found, folder / f"{world}-{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])

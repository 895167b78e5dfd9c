"""What test_distributed.py runs in each of two processes with two devices each: python two_processes.py COORDINATOR ID DATA OUT"""

import sys
from pathlib import Path

import numpy as np

from i2i_jax.config import ConfigError
from i2i_jax.devices import processes

coordinator, number, data, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])

with processes.connected(coordinator, 2, number):
    import jax

    from i2i_jax.data import shapes
    from tiny import batch_of, mapped, sgd_game, state_of

    assert (jax.process_count(), len(jax.devices()), len(jax.local_devices())) == (2, 4, 2)
    assert processes.any_process(number == 1)
    assert not processes.any_process(False)

    shapes.SPLITS = dict.fromkeys(shapes.SPLITS, 12)
    assert processes.first_then_others(lambda: len(shapes.pairs("train", data, prepare=number == 0))) == 12

    processes.refuse_different({"same": "ü", "also": None})
    try:
        processes.refuse_different({"same": 1, "train.steps": 10**number})
        raise AssertionError("not refused")
    except ConfigError as error:
        assert str(error) == "train.steps is 1 in process 0 and 10 in process 1: start all with the same code and options"

    game, batch = sgd_game("bicycle_gan"), batch_of(16)
    result = mapped(game, 4, state_of(game, batch), batch)
    if number == 0:
        np.savez(out, *jax.tree.leaves(jax.device_get((result[0].params, result[1]))))
    processes.print_once("done")

"""No file that is loaded can run code: nothing is unpickled."""

import ast
import pickle
from pathlib import Path

import jax
import pytest

from i2i_jax import build, config
from i2i_jax.data import loader
from i2i_jax.devices import parallel
from i2i_jax.training.pieces import newest_state
from i2i_jax.training.run_folder import open_checkpoints

PACKAGE = Path(config.__file__).parent
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_unpickles(file):
    tree = ast.parse(file.read_text())
    imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & RUNS_CODE
    assert not calls(tree, "eval") + calls(tree, "exec")
    for call in calls(tree, "torch.load"):
        assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("weights_only") == "True"
    for call in calls(tree, "np.load"):
        assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("allow_pickle", "False") == "False"


@pytest.mark.slow
def test_nothing_is_unpickled_from_a_run_and_its_data(trained, shapes_dir, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    run = trained("bicycle")
    for name in ("load", "loads", "Unpickler", "_Unpickler", "_loads", "_load"):
        monkeypatch.setattr(pickle, name, refuse)
    with pytest.raises(AssertionError, match="unpickled"):
        pickle.loads(pickle.dumps(1))
    game, state = build.load(run)
    assert {"generator", "encoder"} == set(state.params) and game.networks.latent_dim
    config, mesh = build.read_config(run), parallel.make_mesh(jax.devices()[:1])
    with open_checkpoints(run, config) as checkpoints:
        assert int(newest_state(checkpoints, config, game, mesh).step) == 2
    pairs = build.pairs(build.read_config(run), "train")
    assert next(loader.batches(pairs, load_size=8, batch_size=2, seed=0)).input.shape == (2, 8, 8, 3)

"""The demo: a model of the package translates drawn inputs, and a page shows the results."""

import io
import shlex
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from i2i_jax import pretrained, sampling
from i2i_jax.data import facade_layouts, loader, shapes
from i2i_jax.inference import image_files, model, translation
from i2i_jax.pages.demo import Section, write_demo
from i2i_jax.storage import files

INPUTS = 6
STYLES = 2  # translations whose style is copied
WALK_INPUTS, WALK_LATENTS, WALK_FRAMES = 4, 4, 12  # of the walk: inputs shown, latents visited, frames from one to the next
WALK_MILLISECONDS = 80  # a frame
FACADE_SIZE = 128  # pixels: the size that the model was trained at
BATCH = 8  # translations at a time, always as many, so that the networks are compiled once

SEEDS = {"facades": 10, "shapes": 63}  # chosen by eye, for answers that differ clearly
INTRODUCTIONS = {
    "facades": "Label maps of facades, drawn by this package, and what a BicycleGAN makes of them that was trained on the CMP Facade "
    "Database (Tyleček & Šára 2013).",
    "shapes": "Outlines, drawn by this package, and what a BicycleGAN makes of them that was trained on six equally likely materials.",
}

Pictures = UInt8[np.ndarray, "b h w 3"]
Latents = Float[np.ndarray, "n d"]


def write(name: str, output: Path, *, samples: int, seed: int | None = None) -> Path:
    """Translates the demo's inputs and writes images, a GIF and a page that shows them.

    Args:
        name: a model of the package.
        output: the folder to write to, created if it does not exist.
        samples: translations of each input.
        seed: seed of the inputs and of the latents; defaults to the model's in SEEDS.

    Returns:
        The page.

    Raises:
        OSError: if a file cannot be written.
    """
    seed = SEEDS[name] if seed is None else seed
    inputs = _drawn(name, seed)
    input_files = _save(output / "inputs", inputs)  # before the model is loaded, so that a bad folder is reported at once
    trained = model.load(pretrained.file(name))
    latents = np.asarray(translation.synced(trained.networks, samples=samples, seed=seed))
    answers = _translated(trained, inputs, latents)
    copies = _translated(trained, inputs[1:], trained.encode(answers[0, :STYLES]))
    path = np.asarray(jax.jit(sampling.walk, static_argnums=1)(latents[:WALK_LATENTS], WALK_FRAMES)).reshape(-1, latents.shape[1])
    walks = _translated(trained, inputs[:WALK_INPUTS], path)

    answer_files = [_save(output / "answers" / f"{index + 1}", pictures) for index, pictures in enumerate(answers)]
    copy_files = [_save(output / "styles" / f"{index + 1}", pictures) for index, pictures in enumerate(copies.swapaxes(0, 1))]
    _save_gif(output / "walk.gif", inputs[:WALK_INPUTS], walks)
    sections = [
        Section(
            "One input, many answers",
            "Every row is one input, every column one random latent: the same latent gives different inputs the same style.",
            ["input", *(str(index + 1) for index in range(samples))],
            [[file, *row] for file, row in zip(input_files, answer_files, strict=True)],
        ),
        Section(
            "The style of one picture, copied to others",
            "The encoder reads the latent of the picture on the left, which is a translation; the generator applies it to other inputs.",
            ["style", *(f"input {index + 1}" for index in range(1, INPUTS))],
            [[None, *input_files[1:]], *([file, *row] for file, row in zip(answer_files[0], copy_files, strict=False))],
        ),
        Section(
            "A walk from latent to latent", "Between two latents lie others, and their answers lie between.", [], [[output / "walk.gif"]]
        ),
    ]
    return write_demo(output, sections, title=f"{name}, seed {seed}", introduction=INTRODUCTIONS[name], next_steps=next_steps(name, output))


def next_steps(name: str, output: Path) -> list[tuple[str, str]]:
    """What to do next, and the command that does it."""
    inputs = shlex.quote(str(output / "inputs"))
    return [
        ("Paint your own inputs in a browser", f"i2i studio --run={name}"),
        ("Translate files; here those of this page", f"i2i translate --run={name} --input={inputs} --output=translated --samples=5"),
        ("Train on your own pairs", "i2i train --config=bicycle:folder --config.data.path=PAIRS"),
    ]


def _drawn(name: str, seed: int) -> Pictures:
    """The inputs of a seed, at the size that the model was trained at."""
    numbers = range(seed * INPUTS, (seed + 1) * INPUTS)
    if name == "facades":
        return np.stack([loader.resize(facade_layouts.layout(number), FACADE_SIZE) for number in numbers])
    return np.stack([np.repeat(shapes.outline(np.random.RandomState(number))[..., None], 3, 2) for number in numbers])


def _translated(trained: model.Model, inputs: Pictures, latents: Latents) -> UInt8[np.ndarray, "b n h w 3"]:
    """Each input with each latent, in batches of one size."""
    picture, latent = (index.ravel() for index in np.indices((len(inputs), len(latents))))
    padded = -(-len(picture) // BATCH) * BATCH
    batches = np.resize(picture, padded).reshape(-1, BATCH), np.resize(latent, padded).reshape(-1, BATCH)
    outputs = [trained(inputs[i], z=latents[j][:, None])[:, 0] for i, j in zip(*batches, strict=True)]
    return np.concatenate(outputs)[: len(picture)].reshape(len(inputs), len(latents), *outputs[0].shape[1:])


def _save(folder: Path, pictures: Pictures) -> list[Path]:
    """Writes pictures as 1.png, 2.png ...; returns their paths."""
    paths = [folder / f"{index + 1}.png" for index in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        files.atomic_write(path, image_files.encode(picture))
    return paths


def _save_gif(path: Path, inputs: Pictures, walks: UInt8[np.ndarray, "b n h w 3"]) -> None:
    """Writes n frames: the inputs side by side, and under each of them its translation. They share one palette."""
    above = np.hstack(list(inputs))
    frames = [np.vstack([above, np.hstack(list(outputs))]) for outputs in walks.swapaxes(0, 1)]
    palette = Image.fromarray(np.vstack(frames[:: WALK_FRAMES // 2])).quantize(256)
    first, *others = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=WALK_MILLISECONDS, loop=0)
    files.atomic_write(path, content.getvalue())

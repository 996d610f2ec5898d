"""What faults are tried on: every program of agents/ and vision/, small enough to end in about a second."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

from vision import backbones

WORLDS = 4  # side by side; those of evaluations are two
RUN = ("--wandb=disabled", "--threads=1", "--device=cpu", "--save-every=0")
WORLD = (*RUN, "--env=Catch", f"--worlds={WORLDS}", "--evaluate-games=2", "--film-seconds=0", "--log-every=20")
LEARNED = (*WORLD, "--backbone=small", "--width=0.25", "--steps=96", "--evaluate-every=32")
VALUES = (*LEARNED, "--hidden=16", "--batch=8", "--target-update-every=16", "--learn-every=8", "--learn-start=24")
VALUES += ("--capacity=60",)
POLICY = (*LEARNED, "--hidden=16")
ROLLOUT = ("--rollout=8", "--epochs=2", "--minibatches=2")
GLIMPSES = (
    *RUN,
    "--images=glyphs",
    "--steps=60",
    "--batch=10",
    "--core-units=16",
    "--glimpse-units=16",
    "--evaluate-every=30",
)
GLIMPSES += ("--log-every=10", "--evaluate-passes=1", "--test-rollouts=1", "--no-film", "--no-bf16")
PICTURES = (*RUN, "--data={data}", "--size=16", "--backbone=lenet5", "--steps=48", "--batch=4", "--evaluate-every=16")
PICTURES += ("--log-every=8", "--no-bf16", "--augment=flip")
SCENES = (*RUN, "--data={annotated}", "--backbone=lenet5", "--width=0.5", "--channels=8", "--steps=24", "--batch=2")
SCENES += ("--evaluate-every=8", "--evaluate-images=4", "--pictures=1", "--log-every=4", "--no-bf16")
PIXELS = (*RUN, "--data={annotated}", "--backbone=small", "--width=0.25", "--hidden=8", "--steps=24", "--batch=2")
PIXELS += ("--size=32", "--evaluate-every=8", "--evaluate-images=4", "--pictures=1", "--log-every=4", "--no-bf16")
LABELS = (*RUN, "--data={annotated}", "--backbone=small", "--width=0.25", "--steps=24", "--batch=2", "--size=32")
LABELS += ("--evaluate-every=8", "--log-every=4", "--no-bf16")
SHORT = ("--data={data}", "--size=16", "--steps=16", "--batch=4", "--no-bf16", "--device=cpu", "--threads=1")
SHORT += ("--out={folder}/picture.png",)
SEQUENCES = (*RUN, "--hidden=8", "--steps=96", "--batch=8", "--evaluate-every=32", "--log-every=8")
CAPTIONS = (*RUN, "--data={annotated}", "--backbone=lenet5", "--size=32", "--features=8", "--hidden=8", "--beam=2")
CAPTIONS += ("--steps=24", "--batch=2", "--evaluate-every=8", "--evaluate-images=4", "--pictures=1", "--log-every=4")
CAPTIONS += ("--no-bf16", "--longest=4", "--map-stride=4")
GENERATED = (
    *RUN,
    "--data={data}",
    "--size=16",
    "--width=0.25",
    "--latents=4",
    "--hidden=8",
    "--samples=4",
    "--no-bf16",
)
GENERATED += ("--steps=24", "--batch=4", "--evaluate-every=8", "--evaluate-images=4", "--log-every=4")
TRANSFORMED = (*RUN, "--data={data}", "--crop=0", "--factor=2", "--width=0.1", "--blocks=1", "--samples=2")
TRANSFORMED += ("--no-bf16", "--steps=24", "--batch=4", "--evaluate-every=8", "--evaluate-images=4")
TRANSFORMED += ("--log-every=4",)
FRAMES, ANNOTATED, BACKBONE = "frames.safetensors", "annotated", "backbone.safetensors"  # beside the pictures


@dataclasses.dataclass(frozen=True)
class Program:
    """A program and the flags that make it small.

    steps: whether it plays a world, whose step can raise. runs: whether it keeps a run, which the same command goes
    on with; else it writes what it has found to its {folder}, and the same command begins again.
    """

    module: str
    flags: tuple[str, ...]
    steps: bool = True
    runs: bool = True

    def arguments(self, folder: Path, pictures: Path, seed: int = 1, *more: str) -> list[str]:
        """Its command line for a run in folder/<world>/run; pictures: where draw() has written some."""
        drawn = {"frames": FRAMES, "annotated": ANNOTATED, "backbone": BACKBONE}
        known = {key: pictures.parent / name for key, name in drawn.items()} | {"data": pictures, "folder": folder}
        flags = [flag.format(**known) if "{" in flag else flag for flag in self.flags]
        return [*flags, f"--folder={folder}", "--name=run", f"--seed={seed}", *more] if self.runs else flags


def draw(folder: Path) -> None:
    """Write an image folder, two classes of pictures of 16 x 16, and beside it what else the programs read.

    That is frames as agents.studies collects them, images with boxes in COCO's format, and a backbone's weights.
    """
    generator = np.random.default_rng(0)
    for part, count in (("train", 16), ("validation", 6), ("test", 6)):
        for label, name in enumerate(("dark", "light")):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                drawn = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8) + 90 * label
                Image.fromarray(drawn.astype(np.uint8)).save(place / f"{number}.png")
    games, long = 10, 12
    frames = {
        "frame": generator.integers(0, 256, (games * long, 84, 84), dtype=np.uint8),
        "memory": generator.integers(0, 256, (games * long, 128), dtype=np.uint8),
        "episode": np.repeat(np.arange(games), long),
    }
    save_file(frames, folder.parent / FRAMES, metadata={"about": json.dumps({"env": "Pong", "games": games})})
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        _annotate(folder.parent / ANNOTATED, part, count, generator)
    torch.manual_seed(0)
    backbones.save(backbones.build("lenet5", (3, 16, 16)), folder.parent / BACKBONE)


def _annotate(folder: Path, part: str, count: int, generator: np.random.Generator) -> None:
    """Write a part's images of 64 x 64, each with a light or a dark square, where that is, and a sentence."""
    (folder / part).mkdir(parents=True, exist_ok=True)
    images, found = [], []
    for number in range(1, count + 1):
        drawn = generator.integers(90, 160, (64, 64, 3), dtype=np.uint8)
        x, y, side = (int(value) for value in generator.integers((0, 0, 12), (36, 36, 28)))
        drawn[y : y + side, x : x + side] = 255 * (number % 2)
        Image.fromarray(drawn).save(folder / part / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0, "segmentation": [corners]}
        found.append({"id": number, "image_id": number, "category_id": 1 + number % 2} | box)
    classes = [{"id": 1, "name": "dark"}, {"id": 2, "name": "light"}]
    content = {"images": images, "annotations": found, "categories": classes}
    (folder / f"instances_{part}.json").write_text(json.dumps(content))
    said = [
        {"id": each["id"], "image_id": each["id"], "caption": f"A {'light' if each['id'] % 2 else 'dark'} square."}
        for each in images
    ]
    (folder / f"captions_{part}.json").write_text(json.dumps({"images": images, "annotations": said}))


def _values(module: str, *flags: str) -> Program:
    return Program(module, (*VALUES, *flags))


TRAINED = {
    "dqn": _values("agents.dqn"),
    "double": _values("agents.rainbow", "--only=double"),
    "dueling": _values("agents.rainbow", "--only=dueling"),
    "prioritized": _values("agents.rainbow", "--only=prioritized"),
    "n_step": _values("agents.rainbow", "--only=n_step"),
    "noisy": _values("agents.rainbow", "--only=noisy"),
    "c51": _values("agents.rainbow", "--only=c51"),
    "qr_dqn": _values("agents.rainbow", "--only=qr_dqn"),
    "iqn": _values("agents.rainbow", "--only=iqn"),
    "munchausen": _values("agents.rainbow", "--only=munchausen"),
    "rainbow": _values("agents.rainbow"),
    "dqn on disk": _values("agents.dqn", "--memory-on-disk"),
    "dqn, rows": _values("agents.dqn", "--env=CartPole", "--backbone=mlp"),
    "r2d2": Program("agents.r2d2", (*LEARNED, "--hidden=16", "--capacity=400", "--batch=4", "--lstm-units=16")),
    "pqn": Program("agents.pqn", (*POLICY, *ROLLOUT)),
    "reinforce": Program("agents.reinforce", POLICY),
    "a2c": Program("agents.a2c", (*POLICY, "--rollout=4")),
    "ppo": Program("agents.ppo", (*POLICY, *ROLLOUT)),
    "ppo, continuous": Program("agents.ppo", (*POLICY, *ROLLOUT, "--env=Pendulum", "--backbone=mlp")),
    "soft_attention": Program("agents.soft_attention", (*LEARNED, *ROLLOUT, "--lstm-units=16")),
    "hard_attention": Program("agents.hard_attention", (*LEARNED, *ROLLOUT, "--lstm-units=16")),
    "recurrent_attention": Program("agents.recurrent_attention", (*GLIMPSES, "--env=MNIST"), steps=False),
    "dram": Program("agents.recurrent_attention.dram", (*GLIMPSES, "--env=Pairs"), steps=False),
    "tabular": Program(
        "agents.tabular",
        (*RUN, "--env=FrozenLake", "--steps=96", f"--worlds={WORLDS}", "--evaluate-games=2", "--evaluate-every=32")
        + ("--log-every=20",),
    ),
    "tabular, planned": Program(
        "agents.tabular", (*RUN, "--env=FrozenLake", "--method=value_iteration", "--evaluate-games=2"), steps=False
    ),
    "classification": Program("vision.classification", PICTURES, steps=False),
    "multi_label": Program("vision.classification.multi_label", LABELS, steps=False),
    "detection": Program("vision.detection", (*SCENES, "--model=ssd", "--size=64"), steps=False),
    "detection, two stages": Program(
        "vision.detection",
        (*SCENES, "--model=faster_rcnn", "--head-width=16", "--regions=8", "--proposals=20"),
        steps=False,
    ),
    "sequences": Program("vision.sequences", (*SEQUENCES, "--task=numerals"), steps=False),
    "sequences, text": Program("vision.sequences", (*SEQUENCES, "--length=16"), steps=False),
    "segmentation": Program("vision.segmentation", (*PIXELS, "--model=fcn16s"), steps=False),
    "generation": Program("vision.generation", GENERATED, steps=False),
    "gan": Program("vision.generation", (*GENERATED, "--model=gan"), steps=False),
    "r3gan": Program("vision.generation", (*GENERATED, "--model=r3gan", "--channels=8"), steps=False),
    "mixtures": Program(
        "vision.generation.mixtures",
        (*RUN, "--hidden=8", "--batch=16", "--steps=24", "--evaluate-every=8", "--film-every=0", "--log-every=4"),
        steps=False,
    ),
    "generation, pixels": Program(
        "vision.generation",
        (*GENERATED, "--model=pixelcnn", "--levels=2", "--features=6", "--layers=1", "--samples=1"),
        steps=False,
    ),
    "image_to_image": Program("vision.image_to_image", TRANSFORMED, steps=False),
    "world_model": Program(
        "agents.studies.world_model",
        (
            *RUN,
            "--frames=160",
            "--worlds=2",
            "--steps=24",
            "--frame-batch=4",
            "--batch=2",
            "--length=8",
            "--context=2",
        )
        + ("--width=0.25", "--channels=2", "--hidden=8", "--evaluate-every=8", "--evaluate-places=2")
        + ("--dream-steps=4", "--log-every=4"),
        steps=False,
    ),
    "captioning": Program("vision.captioning", CAPTIONS, steps=False),
    "captioning, hard": Program("vision.captioning", (*CAPTIONS, "--model=hard"), steps=False),
    "vqa": Program(
        "vision.captioning.vqa",
        (*RUN, "--scenes=40", "--backbone=lenet5", "--channels=8", "--hidden=8", "--blocks=1", "--steps=48")
        + ("--batch=8", "--evaluate-every=16", "--log-every=8", "--pictures=1", "--no-bf16"),
        steps=False,
    ),
    "dense": Program(
        "vision.captioning.dense",
        (*RUN, "--scenes=40", "--size=48", "--width=0.125", "--channels=8", "--head-width=16", "--hidden=8")
        + ("--regions=8", "--proposals=20", "--steps=48", "--batch=8", "--evaluate-every=16", "--log-every=8")
        + ("--pictures=1", "--no-bf16"),
        steps=False,
    ),
    "classification, snapshots": Program(
        "vision.classification", (*PICTURES, "--schedule=snapshots", "--snapshots=2", "--ema-decay=0.9"), steps=False
    ),
}
_tool = functools.partial(Program, steps=False, runs=False)
WRITING = {
    "classical": _tool(
        "vision.classification.classical", ("--data={data}", "--epochs=2", "--folder={folder}", "--threads=1")
    ),
    "classical, neighbors": _tool(
        "vision.classification.classical",
        ("--data={data}", "--method=knn", "--neighbors", "1", "3", "--folds=2", "--folder={folder}"),
    ),
    "search": _tool(
        "vision.classification.search",
        ("--data={data}", "--backbone=lenet5", "--runs=2", "--rounds=1", "--steps=16", "--folder={folder}")
        + ("--flags=--size 16 --batch 4 --no-bf16 --save-every 0 --log-every 8", "--threads=1", "--device=cpu"),
    ),
    "ablation_study": _tool(
        "vision.classification.ablation_study",
        (*SHORT, "--only=dropout", "--shots=0", "--seeds=2", "--backbone=lenet5"),
    ),
    "architecture_search": _tool(
        "vision.classification.architecture_search",
        (*SHORT, "--width=0.25", "--trials=3", "--population=2", "--sample=2", "--seeds=1"),
    ),
    "grid_and_random": _tool(
        "vision.classification.grid_and_random", (*SHORT, "--backbone=lenet5", "--side=2", "--repeats=1")
    ),
    "rate_range": _tool("vision.classification.rate_range", (*SHORT, "--backbone=lenet5", "--updates=8")),
    "bag_of_words": _tool(
        "vision.classification.bag_of_words",
        (
            "--data={data}",
            "--size=32",
            "--images=0",
            "--words=8",
            "--epochs=2",
            "--threads=1",
            "--out={folder}/words.png",
        ),
    ),
    "retrieval": _tool(
        "vision.classification.retrieval",
        ("pixels", "--data={data}", "--size=16", "--neighbors=2", "--threads=1", "--out={folder}/retrieval.png"),
    ),
    "stage_probe": _tool(
        "vision.classification.stage_probe",
        ("lenet5", "--data={data}", "--shots=4", "--epochs=2", "--threads=1", "--out={folder}/stages.png"),
    ),
    "transfer_study": _tool(
        "vision.classification.transfer_study",
        ("{backbone}", "--similar={data}", "--different={data}", "--size=16", "--little=2", "--much=4", "--steps=8")
        + ("--batch=4", "--seeds=1", "--threads=1", "--out={folder}/transfer.png"),
    ),
    "linear": _tool("vision.classification.linear", ("--points=20", "--epochs=5", "--out={folder}/linear.png")),
    "computational_graphs": _tool(
        "vision.computational_graphs",
        ("--network=two-layer", "--steps=640", "--threads=1", "--out={folder}/graph.png"),
    ),
    "optimizer_paths": _tool(
        "vision.training.optimizer_paths",
        ("--surfaces=saddle", "--optimizers", "sgd", "momentum", "--evaluations=10", "--out={folder}/paths.mp4"),
    ),
    "texture_synthesis": _tool(
        "vision.interpretation.texture_synthesis",
        ("--size=8", "--output-side=5", "--window=3", "--threads=1", "--out={folder}/texture.png"),
    ),
    "augmented": _tool(
        "vision.data.augmented",
        ("--size=32", "--augment=flip", "--seconds=0.5", "--out={folder}/augmented.png"),
    ),
    "upsampling": _tool("vision.segmentation.upsampling_picture", ("--factor=2", "--out={folder}/upsampling.png")),
    "export": _tool(
        "vision.data", ("export", "--train=3", "--validation=1", "--test=1", "--side=32", "--folder={folder}/coco")
    ),
    "activation_study": _tool(
        "vision.classification.activation_study", ("--out={folder}/activations.png", "--width=16", "--inputs=8")
    ),
    "rbm_pretraining": _tool(
        "vision.generation.rbm_pretraining",
        ("--data={data}", "--size=16", "--layers", "8", "4", "--code=2", "--pretraining=64", "--steps=64")
        + ("--batch=8", "--points=2", "--threads=1", "--device=cpu", "--out={folder}/rbm.png"),
    ),
    "gradient_flow": _tool(
        "vision.sequences.gradient_flow", ("--out={folder}/gradients.png", "--length=10", "--hidden=8")
    ),
    "parameter_server": _tool(
        "vision.training.parameter_server",
        ("--workers=2", "--updates=8", "--batch=4", "--images=40", "--side=8", "--hidden=4")
        + ("--out={folder}/server.png",),
    ),
    "gradient_variance": _tool(
        "agents.studies.gradient_variance",
        ("--env=Catch", "--stages", "0", "64", "--episodes=8", "--folder={folder}"),
    ),
    "collect": _tool(
        "agents.studies.representation.collect",
        ("--env=Pong", "--games=3", "--max-steps=12", "--out={folder}/frames.safetensors"),
    ),
    "export_coco": _tool(
        "agents.studies.export_coco",
        ("--env=Breakout", "--frames=6", "--every=1", "--episode-frames=2", "--folder={folder}/coco"),
    ),
    "pretrain": _tool(
        "agents.studies.representation.pretrain",
        ("--method=autoencoder", "--frames={frames}", "--epochs=1", "--width=0.1", "--folder={folder}/pretrained")
        + ("--threads=1",),
    ),
    "probe": _tool(
        "agents.studies.representation.probe",
        ("memory", "--frames={frames}", "--backbones", "random", "--seeds", "1", "--out={folder}/probe.json")
        + ("--threads=1", "--epochs=1", "--width=0.1"),
    ),
    "sheet": _tool("vision.data", ("{data}", "--size=16", "--out={folder}/sheet.png", "--rows=2")),
    "picture": _tool("vision.backbones", ("--draw=resnet18", "--only", "resnet18", "--file={folder}/picture.png")),
}
PROGRAMS = TRAINED | WRITING

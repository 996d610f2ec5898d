"""Atari games as labeled images: objects by console memory, compared with the screen; recordings in COCO's format."""

import dataclasses
import json

import ale_py.roms
import numpy as np
import pytest
import torch
from ale_py import ALEInterface, LoggerMode
from PIL import Image

import envs
import runs
from agents import dqn, recording, watch
from agents.studies import export_coco, film_detections
from envs import objects
from envs.atari import ROMS
from envs.objects import breakout, captions, palette
from envs.objects.scene import Appearance, object_at
from vision.data import annotated, scenes
from vision.data.annotated import export
from vision.data.annotated.coco_writer import CocoWriter, Instance
from vision.data.annotated.polygons import decode, encode, runs_of
from vision.detection import Detections


def frames(game, seed, steps):
    """Screens of random play with their objects, every step of four emulator frames."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path(ROMS[game]))
    random, action = np.random.default_rng(seed), 0
    ale.reset_game()
    for _ in range(steps):
        if random.random() < 0.25:
            action = random.integers(len(ale.getMinimalActionSet()))
        for _ in range(3):
            ale.act(ale.getMinimalActionSet()[action])
        before = ale.getRAM().copy()
        ale.act(ale.getMinimalActionSet()[action])
        memory = before if objects.GAMES[game].lag else ale.getRAM()
        yield objects.read(game, memory), ale.getScreenRGB()
        if ale.game_over():
            ale.reset_game()


def check(game, steps, seeds):
    """The share of boxes that hold their object's color, over all frames."""
    held = []
    for seed in seeds:
        for there, screen in frames(game, seed, steps):
            seen, holds = objects.appearances(there, screen)
            held += holds
            covered = np.zeros(screen.shape[:2], int)
            for each in seen:
                left, top, right, bottom = each.box
                assert each.mask.any(0)[[0, -1]].all() and each.mask.any(1)[[0, -1]].all(), "a box is the smallest"
                covered[top:bottom, left:right] += each.mask
            assert covered.max(initial=0) <= 1, "a pixel belongs to one object"
    return np.mean(held)


@pytest.mark.parametrize("game", list(objects.GAMES))
def test_boxes_hold_their_objects_color(game):
    assert check(game, 60, (1,)) >= recording.ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("game", list(objects.GAMES))
def test_boxes_hold_their_objects_color_in_long_games(game):
    assert check(game, 1_500, (1, 2, 3)) >= recording.ENOUGH


def test_the_palette_is_the_emulators():
    for game in ("Seaquest", "Breakout"):
        ale = ALEInterface()
        ale.loadROM(ale_py.roms.get_rom_path(ROMS[game]))
        registers, colors = ale.getScreen().ravel(), ale.getScreenRGB().reshape(-1, 3)
        for register in np.unique(registers):
            assert palette.color_of(int(register)) == tuple(colors[registers == register][0])


def test_bricks_by_hand():
    """The wall of a new game is whole; without the bits of its third brick, the upper row has two stretches."""
    ram = [0] * 128
    for byte, bit in breakout.BITS:
        for row in range(6):
            ram[6 * byte + 5 - row] |= 3 << bit
    found = [each for each in breakout.read(ram) if each.name == "bricks"]
    assert [each.box for each in found] == [(8, 57 + 6 * row, 152, 63 + 6 * row) for row in range(6)]
    byte, bit = breakout.BITS[2]
    ram[6 * byte + 5] &= ~(3 << bit)
    found = [each for each in breakout.read(ram) if each.name == "bricks"]
    assert [each.box for each in found][:2] == [(8, 57, 24, 63), (32, 57, 152, 63)]


def test_pixels_belong_to_the_object_in_front():
    screen = np.zeros((210, 160, 3), np.uint8)
    screen[10:14, 20:30] = (1, 2, 3)
    front = object_at("a", 20, 10, 4, 4, (1, 2, 3))
    behind = object_at("b", 18, 8, 10, 8, (1, 2, 3), reach=1)
    hidden = object_at("c", 100, 100, 4, 4, (1, 2, 3))
    assert object_at("d", 160, 0, 4, 4, (0, 0, 0)) == [] and object_at("d", -3, 5, 4, 4)[0].box == (0, 5, 1, 9)
    seen, holds = objects.appearances(front + behind + hidden, screen)
    assert holds == [True, True, False]
    assert [(each.name, each.box) for each in seen] == [("a", (20, 10, 24, 14)), ("b", (24, 10, 29, 14))]
    assert all(each.mask.all() for each in seen)


def test_captions():
    def at(name, left, top):
        return Appearance(name, (left, top, left + 4, top + 4), np.ones((4, 4), bool))

    game = objects.GAMES["MsPacman"]
    seen = [at("player", 78, 100), at("ghost", 0, 0), at("ghost", 9, 0), at("power pill", 9, 9)]
    assert captions.sentence(game, seen) == "The player is at the center, with two ghosts and one power pill."
    assert captions.sentence(game, seen[1:3]) == "There are two ghosts."
    game = objects.GAMES["Breakout"]
    seen = [at("ball", 0, 0), at("paddle", 150, 189)]
    assert captions.sentence(game, seen) == "The ball is at the top left, the paddle at the bottom right."
    assert captions.sentence(game, []) == "Nothing is on the screen."


def test_run_lengths_are_read_back():
    random = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = random.random((37, 23)) < share
        counts = runs_of(mask)
        assert counts.sum() == mask.size and (decode(encode(counts)) == counts).all()
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(23, 37).T
        assert (values == mask).all()


def test_a_written_set_is_read_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    mask = np.ones((5, 6), bool)
    mask[0, 1:] = False
    writer = CocoWriter(tmp_path, ("one", "two"))
    for number, part in enumerate(("train", "train", "val", "test")):
        objects_ = [Instance(1, (10, 20, 16, 25), mask)] if number else []
        writer.add(part, f"{number}", image, objects_, [f"Number {number}."])
    assert writer.finish() == {"train": (2, 1), "val": (1, 1), "test": (1, 1)}
    sets = annotated.load(tmp_path, whole=True)
    assert [len(part) for part in sets[:3]] == [2, 1, 1] and sets.classes == ("one", "two")
    sample = sets.train[1]
    assert (sample.image.permute(1, 2, 0).numpy() == image).all() and sample.target.captions == ("Number 1.",)
    assert sample.target.boxes.tolist() == [[10, 20, 16, 25]] and sample.target.labels.tolist() == [1]
    assert (sample.target.masks[0, 20:25, 10:16].numpy() == mask).all() and sample.target.masks.sum() == mask.sum()
    semantic = Image.open(tmp_path / "semantic" / "train" / "1.png")
    assert semantic.mode == "P" and (np.asarray(semantic)[20:25, 10:16] == 2 * mask).all()
    assert (tmp_path / "classes.txt").read_text().split() == ["background", "one", "two"]


def test_drawn_scenes_are_files_too(tmp_path):
    config = export.Config(tmp_path / "coco", train=3, validation=1, test=1, side=40)
    export.main(config)
    sets = annotated.load(tmp_path / "coco", whole=True)
    drawn = scenes.Scenes(3, 0, 40)
    assert [len(part) for part in sets[:3]] == [3, 1, 1] and sets.classes == scenes.Scenes.classes
    for sample, other in zip(sets.train, drawn, strict=True):
        assert torch.equal(sample.image, other.image) and torch.equal(sample.target.masks, other.target.masks)
        assert torch.equal(sample.target.boxes, other.target.boxes) and len(sample.target.captions) == 1
    with pytest.raises(runs.RunError, match="is not empty"):
        export.main(config)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recording_goes_on_where_it_stopped_and_is_not_overwritten(tmp_path, monkeypatch):
    whole = export_coco.Config("Breakout", frames=18, every=2, episode_frames=5, folder=tmp_path / "whole")
    assert export_coco.main(whole) == tmp_path / "whole"
    sets = annotated.load(tmp_path / "whole", whole=True)
    assert sum(len(part) for part in sets[:3]) == 18 and min(len(part) for part in sets[:3]) >= 3
    assert not [each for each in sets.problems if each.kind != "class without objects"]
    assert all(each.captions for each in sets.train.annotations)
    parts = [{each.path.stem.split("-")[0] for each in part.annotations} for part in sets[:3]]
    assert not parts[0] & parts[1] and not parts[0] & parts[2], "games are in one part"
    lines = [json.loads(line) for line in (tmp_path / "whole" / "frames.jsonl").read_text().splitlines()]
    digests = [line["digest"] for line in lines if "file" in line]
    assert len(set(digests)) == 18

    class Stop(Exception):
        pass

    stopped = dataclasses.replace(whole, folder=tmp_path / "stopped")
    with monkeypatch.context() as patch:
        record = recording.Recording._record

        def stopping(self, world, part, number, held, total):
            if self.count == 12:
                raise Stop
            return record(self, world, part, number, held, total)

        patch.setattr(recording.Recording, "_record", stopping)
        with pytest.raises(Stop):
            export_coco.main(stopped)
    with pytest.raises(runs.RunError, match="with frames 18, not 25: it is not overwritten"):
        export_coco.main(dataclasses.replace(stopped, frames=25))
    export_coco.main(stopped)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    with pytest.raises(runs.Finished, match="is finished"):
        export_coco.main(stopped)
    with pytest.raises(ValueError, match="objects of Qbert are not read"):
        export_coco.main(dataclasses.replace(whole, env="Qbert"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    with pytest.raises(runs.RunError, match="something else than a recording"):
        export_coco.main(dataclasses.replace(whole, folder=tmp_path / "other"))


def test_wrong_boxes_are_an_error(tmp_path, monkeypatch):
    wrong = objects.GAMES["Pong"]._replace(read=lambda ram: object_at("ball", 80, 100, 2, 4, (1, 1, 1)))
    monkeypatch.setitem(objects.GAMES, "Pong", wrong._replace(pursuit=None))
    with pytest.raises(runs.RunError, match=r"only 0.0% of the boxes"):
        export_coco.main(export_coco.Config("Pong", frames=3, every=1, folder=tmp_path / "wrong"))


def test_screen_and_memory_are_of_one_frame():
    """The screen is the last of a step's frames, and previous memory that of the frame before."""
    world = envs.make("Breakout", 2, ram=True)
    for action in (1, 2, 2, 3):
        world.step(torch.tensor([action, action]))
    assert world.screen.shape == (2, 210, 160, 3) and world.previous_ram.shape == (2, 128)
    there = objects.read("Breakout", world.ram[1].numpy())
    assert all(objects.appearances(there, world.screen[1])[1]) and len(there) >= 7
    assert not torch.equal(world.previous_ram, world.ram)


@pytest.mark.slow
def test_a_trained_agents_games_are_recorded(tmp_path):
    config = dqn.recipe(dqn.Config(env="Breakout"))
    few = dict(steps=48, learn_start=32, memory_size=64, batch=8, evaluate_every=0, film_seconds=0.0)
    few = {key: value for key, value in few.items() if hasattr(config, key)}
    dqn.train(dataclasses.replace(config, folder=tmp_path, wandb="disabled", device="cpu", **few))
    folder = tmp_path / "coco"
    watch.main(watch.Config(tmp_path / "Breakout" / "dqn-1", device="cpu", export_coco=folder, frames=6, every=2))
    about = json.loads((folder / "recording.json").read_text())
    assert about["frames"] == 6 and about["share"] > 0.97 and "dqn-1" in about["settings"]["player"]


def test_a_game_is_filmed_with_what_is_detected(tmp_path, monkeypatch, capsys):
    """Boxes are drawn around their pixels, three times as large; a game is named, and one whose objects are known."""
    import imageio.v3 as imageio

    screens = []

    class Trained:
        def predict(self, images, least):
            screens.append(images[0])
            masks = torch.zeros(1, 210, 160, dtype=torch.bool)
            masks[0, 190:194, 40:56] = True
            return [Detections(torch.tensor([[40.0, 190, 56, 194]]), torch.tensor([0.9]), torch.tensor([1]), masks)]

        def names(self, found):
            return ["paddle"] * len(found)

    monkeypatch.setattr(film_detections.detection, "load", lambda folder, device: Trained())
    config = film_detections.Config(tmp_path, "Breakout", seconds=3.0, device="cpu")
    path = film_detections.main(config)
    assert path == tmp_path / "videos" / "Breakout-seed-1.mp4" and "ms each" in capsys.readouterr().out
    assert imageio.imread(path).shape == (len(screens), 630, 480, 3) and screens[0].shape == (3, 210, 160)
    (found,) = Trained().predict([screens[0]], 0.5)
    drawn = film_detections.drawn(screens[0].permute(1, 2, 0).numpy(), found, ["paddle"])
    green = drawn[569, 119:169]  # the edge above, outside of the object's pixels
    assert (green == (44, 160, 44)).all() and (drawn[582, 169] != (44, 160, 44)).any()
    assert len({screen.numpy().tobytes() for screen in screens}) > 3
    for wrong, words in ((dict(env=None), "name a game with --env"), (dict(env="Qbert"), "not of Qbert")):
        with pytest.raises(ValueError, match=words):
            film_detections.main(dataclasses.replace(config, **wrong))

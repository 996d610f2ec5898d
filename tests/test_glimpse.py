"""The glimpse world: its retina and its scenes against loops over images, its rules, another library's learning."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torch.nn import functional as F

import envs
from envs import glimpse
from envs.glimpse import TASKS, GlimpseVectorEnv, Retina, Scenes


def seen_by_loop(image, location, size, scales):
    """One image (C, H, W), one location, one scale after the other, cut out of a black surround."""
    _, height, width = image.shape
    x, y = round((location[0].item() + 1) / 2 * width), round((location[1].item() + 1) / 2 * height)
    border, patches = 200, []
    wide = F.pad(image, (border,) * 4)
    for k in range(scales):
        side = size * 2**k
        top, left = border + y - side // 2, border + x - side // 2
        patches.append(F.avg_pool2d(wide[:, top : top + side, left : left + side], 2**k))
    return torch.cat(patches)


# The retina


def test_retina_by_hand():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    retina = Retina((1, 4, 4), size=2, scales=2)
    subtract_mean, corner = retina.extract(
        retina.prepare(image.repeat(2, 1, 1, 1)), torch.tensor([[0.0, 0.0], [-1.0, -1.0]])
    )
    assert subtract_mean[0].tolist() == [[5, 6], [9, 10]]
    assert subtract_mean[1].tolist() == [[2.5, 4.5], [10.5, 12.5]]  # means of 2 x 2
    assert corner[0].tolist() == [[0, 0], [0, 0]]  # only the lower right pixel is in the image, and that is 0
    assert corner[1].tolist() == [[0, 0], [0, 2.5]]


@pytest.mark.parametrize(
    "shape, size, scales", [((1, 28, 28), 8, 1), ((1, 60, 60), 12, 3), ((1, 100, 100), 12, 4), ((3, 20, 31), 5, 2)]
)
def test_retina_is_the_loop(shape, size, scales):
    random = torch.Generator().manual_seed(0)
    images = torch.rand(40, *shape, generator=random)
    location = torch.rand(40, 2, generator=random) * 2.4 - 1.2
    location[:4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    retina = Retina(shape, size, scales)
    patches = retina.extract(retina.prepare(images), location)
    assert patches.shape[1:] == retina.patches == (scales * shape[0], size, size)
    expected = [seen_by_loop(i, p.clamp(-1, 1), size, scales) for i, p in zip(images, location, strict=True)]
    assert torch.allclose(patches, torch.stack(expected), atol=1e-6)


def test_smooth_retina_is_the_sharp_one_on_pixels_and_its_mean_between():
    images = torch.rand(6, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    retina = Retina((1, 20, 20), 4, 3)
    maps = retina.prepare(images)
    location = torch.tensor([[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [0.3, -0.4], [-0.8, 0.1], [0.5, 0.5]])
    assert torch.allclose(retina.extract(maps, location, smooth=True), retina.extract(maps, location), atol=1e-5)
    right = location + torch.tensor([0.1, 0.0])  # a pixel to the right
    between = retina.extract(maps, location + torch.tensor([0.025, 0.0]), smooth=True)  # a quarter of the way
    mean = 0.75 * retina.extract(maps, location) + 0.25 * retina.extract(maps, right)
    inside = location[:, 0] < 1
    assert torch.allclose(between[inside], mean[inside], atol=1e-5)


def test_smooth_retina_has_the_locations_gradient():
    images = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    retina = Retina((1, 12, 12), 3, 2)
    retina._extent = retina._extent.double()
    location = torch.tensor([[0.03, 0.21], [-0.47, 0.66], [0.9, -0.93]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: retina.extract(retina.prepare(images), x, smooth=True), location, eps=1e-6
    )


def test_a_retina_has_1_to_4_scales():
    with pytest.raises(ValueError, match="1 to 4 scales, got 5"):
        Retina((1, 28, 28), 8, 5)


# The scenes


def scenes_by_loop(scenes, rows, uniform):
    """The same rules, an image and a piece after the other."""
    made, (_, tall, wide) = [], scenes.shape
    height, width = scenes.images.shape[2:]
    for row, numbers in zip(rows.tolist(), uniform.tolist(), strict=True):
        scene = torch.zeros(scenes.shape)
        digits = scenes.task.digits
        tops = [int(numbers.pop() * (tall - height + 1)) for _ in range(digits)]
        lefts = sorted(int(numbers.pop() * (wide - digits * width + 1)) for _ in range(digits))
        shown = [row, *(int(number * len(scenes)) for number in numbers[: digits - 1])]
        for n, (image, top, left) in enumerate(zip(shown, tops, lefts, strict=True)):
            left += n * width  # columns of their own
            scene[:, top : top + height, left : left + width] += scenes.images[image]
        for _ in range(scenes.task.distractors):
            other = (row + 1 + int(numbers.pop() * (len(scenes) - 1))) % len(scenes)
            up, along = int(numbers.pop() * (height - 7)), int(numbers.pop() * (width - 7))
            piece = scenes.images[other, :, up : up + 8, along : along + 8]
            top, left = int(numbers.pop() * (tall - 7)), int(numbers.pop() * (wide - 7))
            scene[:, top : top + 8, left : left + 8] += piece
        made.append((scene / 255).clamp(max=1))
    return torch.stack(made)


@pytest.mark.parametrize("task, side", [("Translated", 60), ("Cluttered", 60), ("Cluttered100", 100), ("Pairs", 100)])
def test_scenes_are_the_loops(task, side):
    scenes = Scenes(*glimpse.glyphs(50), TASKS[task])
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(50, (30,), generator=random)
    uniform = torch.rand(30, scenes.draws, generator=random)
    uniform[0], uniform[1] = 0, 1 - 2**-24  # as small and as large as they come
    painted = scenes.paint(rows, uniform)
    assert painted.shape == (30, 1, side, side)
    assert torch.allclose(painted, scenes_by_loop(scenes, rows, uniform), atol=1e-6)
    answers = scenes.answers(rows, uniform)
    assert torch.equal(answers[:, 0], scenes.labels[rows])
    if task == "Pairs":
        assert torch.equal(answers[:, 1], scenes.labels[(uniform[:, 0] * 50).long()])


def test_scenes_are_new_and_determined_by_the_generator():
    scenes = Scenes(*glimpse.glyphs(50), TASKS["Cluttered"])
    first, labels = scenes.sample(20, torch.Generator().manual_seed(3))
    again, same = scenes.sample(20, torch.Generator().manual_seed(3))
    other, _ = scenes.sample(20, torch.Generator().manual_seed(4))
    assert torch.equal(first, again) and torch.equal(labels, same) and not torch.equal(first, other)
    rows = torch.zeros(20, dtype=torch.int64)
    painted = scenes.paint(rows, torch.rand(20, scenes.draws))
    assert len(painted.flatten(1).unique(dim=0)) == 20


def test_plain_scenes_are_the_images():
    images, labels = glimpse.glyphs(30)
    scenes = Scenes(images, labels)
    assert torch.equal(scenes.paint(torch.arange(30), torch.rand(30, 0))[:, 0], images / 255)
    assert scenes.classes == 10 and labels.bincount().tolist() == [3] * 10


def test_bad_images_say_what_is_wrong():
    images, labels = glimpse.glyphs(10)
    with pytest.raises(ValueError, match="torch.float32"):
        Scenes(images.float(), labels)
    with pytest.raises(ValueError, match="10 images have 9 labels"):
        Scenes(images, labels[:9])
    with pytest.raises(ValueError, match="do not fit into a scene of side 20"):
        Scenes(images, labels, glimpse.Task(20, 0))
    with pytest.raises(ValueError, match="2 images of 28 x 28 do not fit into a scene of side 50"):
        Scenes(images, labels, glimpse.Task(50, 0, 2))
    with pytest.raises(ValueError, match="'Clutered': choose one of Plain"):
        GlimpseVectorEnv(1, task="Clutered")
    with pytest.raises(ValueError, match="both images and labels"):
        GlimpseVectorEnv(1, images=images)


# The rules


def test_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("saccade/Glimpse-v0", render_mode="rgb_array").unwrapped)


def test_both_digits_of_a_pair_are_asked_for():
    games = GlimpseVectorEnv(3, task="Pairs", glimpses=1, autoreset_mode=AutoresetMode.DISABLED)
    games.reset(seed=1)
    scores = np.full((3, 2, 10), -0.5, np.float32)
    for digit in range(2):
        scores[np.arange(3), digit, games._labels[:, digit]] = 0.5
    for game in (1, 2):  # one has the left digit wrong, one the right
        scores[game, game - 1] = -scores[game, game - 1]
    action = np.concatenate([np.zeros((3, 2), np.float32), scores.reshape(3, 20)], 1)
    assert games.action_space.contains(action)
    _, reward, terminated, _, _ = games.step(action)
    assert terminated.all() and reward.tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_as_a_vector_environment(mode):
    settings = dict(glimpses=3, task="Cluttered")
    games = gymnasium.make_vec("saccade/Glimpse-v0", 4, "vector_entry_point", autoreset_mode=mode, **settings)
    assert games.metadata["autoreset_mode"] == mode
    observation, _ = games.reset(seed=7)
    assert games.observation_space.contains(observation)
    again, _ = games.reset(seed=[7, 8, 9, 10])
    assert np.array_equal(observation, again)
    label = games.unwrapped._labels[:, 0].copy()
    action = games.action_space.sample()
    for _ in range(2):
        observation, reward, terminated, truncated, info = games.step(action)
        assert games.observation_space.contains(observation)
        assert np.array_equal(observation[:, -2:], action[:, :2])  # the retina moved where the action said
        assert not terminated.any() and not reward.any()
    answer = np.full((4, 12), -0.5, np.float32)
    answer[np.arange(4), 2 + label] = 0.5
    answer[3, 2 + (label[3] + 1) % 10] = 0.6  # in one game another class
    observation, reward, terminated, truncated, info = games.step(answer)
    assert terminated.all() and not truncated.any() and reward.tolist() == [1, 1, 1, 0]
    if mode == AutoresetMode.SAME_STEP:
        assert (info["final_obs"][:, -2:] == -0.5).all() and (observation[:, -2:] != -0.5).all()
    elif mode == AutoresetMode.NEXT_STEP:
        observation, reward, terminated, *_ = games.step(answer)
        assert not terminated.any() and not reward.any() and (observation[:, -2:] != -0.5).all()
        for _ in range(2):
            *_, terminated, _, _ = games.step(answer)
            assert not terminated.any()
        assert games.step(answer)[2].all()
    else:
        with pytest.raises(RuntimeError, match="reset it first"):
            games.step(answer)


def test_takes_any_images():
    images = torch.randint(256, (6, 3, 32, 40), dtype=torch.uint8)
    games = GlimpseVectorEnv(2, images, torch.tensor([0, 1, 2, 0, 1, 2]), size=4, scales=3)
    observation, _ = games.reset(seed=1)
    assert observation.shape == (2, 3 * 3 * 4 * 4 + 2) and games.single_action_space.shape == (5,)


def test_picture_shows_image_and_windows():
    games = GlimpseVectorEnv(2, render_mode="rgb_array")
    games.reset(seed=1)
    games._location[:] = [0.0, 0.0]
    picture = games.render()[0]
    red = (picture == (255, 0, 0)).all(2)
    assert picture.shape == (28, 28, 3)
    assert red.sum() == 4 * 7 and red[10, 10:18].all() and red[10:18, 17].all()  # around rows and columns 10 to 17


def test_a_world_of_glimpses():
    world = envs.make("Glimpse", 3, seed=2, glimpses=2)
    assert world.action_shape == (12,) and world.observation_shape == (130,)
    world.step(torch.zeros(3, 12))
    transition = world.step(torch.zeros(3, 12))
    assert (
        transition.last.all() and (transition.discount == 0).all() and set(transition.reward.tolist()) <= {0.0, 1.0}
    )


# Slow


@pytest.mark.slow
def test_another_librarys_ppo_learns_it():
    """Stable-Baselines3's PPO tells three digits apart, from a place that it chose. (All ten take it far longer.)"""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    images, labels = glimpse.glyphs()
    few = labels < 3
    settings = dict(images=images[few], labels=labels[few], glimpses=2, size=8, scales=3)
    games = make_vec_env("saccade/Glimpse-v0", n_envs=16, seed=1, env_kwargs=settings)
    model = sb3.PPO(
        "MlpPolicy",
        games,
        n_steps=64,
        batch_size=256,
        gamma=0.9,
        learning_rate=1e-3,
        policy_kwargs={"log_std_init": -1.0},  # a deviation of 1 throws most locations to the edges
        seed=1,
        device="cpu",
    )
    before, _ = evaluate_policy(model, games, n_eval_episodes=300)
    model.learn(30_000)
    score, _ = evaluate_policy(model, games, n_eval_episodes=300)
    print(f"{before:.3f} before, {score:.3f} after")
    assert before < 0.6 and score > 0.9

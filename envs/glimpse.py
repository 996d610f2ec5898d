"""Glimpse: classify an image that is seen only through a small window, which the agent moves.

The retina, four of the tasks and the rules are those of Mnih et al. 2014, "Recurrent models of visual attention". An
episode is one image and `glimpses` glimpses of it, the first at a random location. An action is the next location and
a score for each class; the scores of the last action are the answer, with reward 1 if it is right and 0 if not. In
the fifth task two digits are read from left to right, after Ba et al. 2015, "Multiple object recognition with visual
attention".

Registered with Gymnasium as "saccade/Glimpse-v0", also for other libraries:
    gymnasium.make("saccade/Glimpse-v0")       gymnasium.make_vec("saccade/Glimpse-v0", num_envs=64, task="Cluttered")

Its images are drawn digits unless tensors are given: GlimpseVectorEnv(64, images=..., labels=...). The supervised
learners in agents/recurrent_attention/ use Scenes and Retina alone: whole batches of tensors on any device.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from torch import Tensor
from torch.nn import functional as F

from envs.vector_env import BatchVectorEnv, SingleEnv

ID = "saccade/Glimpse-v0"


class Task(NamedTuple):
    """How a scene is made from an image."""

    side: int | None  # pixels of the square scene in which it is placed at random; None: the image is the scene
    distractors: int  # pieces of other images, strewn over the scene
    digits: int = 1  # images side by side in a scene, each to be read


TASKS = {  # Mnih et al. 2014, section 4.1; the last Ba et al. 2015, section 4.1
    "Plain": Task(None, 0),
    "Translated": Task(60, 0),
    "Cluttered": Task(60, 4),
    "Cluttered100": Task(100, 8),
    "Pairs": Task(100, 8, 2),
}
PIECE = 8  # pixels, side of a distractor


class Scenes:
    """Scenes from an image set, each a function of uniform random numbers in [0, 1), made in batches.

    images: (N, H, W) or (N, C, H, W) uint8, N at least 2 where there are distractors. labels: (N,) int64.
    Both stay on the device they are on, and scenes are made there.

    shape: (C, H, W) of a scene. draws: random numbers per scene. classes: largest label + 1.
    Raises ValueError for images that are not uint8 or do not fit into the scene.
    """

    def __init__(self, images: Tensor, labels: Tensor, task: Task = TASKS["Plain"]) -> None:
        if images.dtype != torch.uint8 or images.dim() not in (3, 4):
            raise ValueError(f"images are (N, H, W) or (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images have {len(labels)} labels")
        self.images = (images[:, None] if images.dim() == 3 else images).contiguous()
        self.labels, self.task = labels.long(), task
        self.classes = int(labels.max()) + 1
        channels, height, width = self.images.shape[1:]
        self.shape = (channels, task.side or height, task.side or width)
        if self.shape[1] < height or self.shape[2] < width * task.digits:
            many = "" if task.digits == 1 else f"{task.digits} "
            raise ValueError(f"{many}images of {height} x {width} do not fit into a scene of side {task.side}")
        if task.distractors and min(height, width) < PIECE:
            raise ValueError(f"images of {height} x {width} have no pieces of {PIECE} x {PIECE} for distractors")
        self.draws = task.digits - 1 + (2 * task.digits if task.side else 0) + 5 * task.distractors

    def __len__(self) -> int:
        return len(self.labels)

    def answers(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """The labels (B, digits) of the scenes that `paint` makes of the same numbers, from left to right."""
        return self.labels[self._shown(rows, uniform)]

    def _shown(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """(B, digits) the images of each scene: the one asked for, and random ones to the right of it."""
        others = _whole(uniform[:, : self.task.digits - 1], len(self))
        return torch.cat([rows[:, None], others], 1)

    def paint(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """The scenes of images `rows` (B,) int64, with places by `uniform` (B, draws) in [0, 1).

        Digits do not overlap in columns. Distractors are pieces of other images, added at random places wholly inside
        the scene; sums are clipped at 1.

        Returns:
            (B, C, H, W) float32 in [0, 1].
        """
        if self.task.side is None and not self.task.distractors:
            return self.images[rows].float() / 255
        channels, height, width = self.images.shape[1:]
        _, tall, wide = self.shape
        scene = torch.zeros(len(rows), channels * tall * wide, device=rows.device)
        shown, digits = self._shown(rows, uniform), self.task.digits
        uniform = list(uniform.unbind(1))
        placed = [uniform.pop() if self.task.side else torch.zeros_like(uniform[0]) for _ in range(2 * digits)]
        places = torch.stack(placed, 1)
        top = _whole(places[:, :digits], tall - height + 1)
        left = _whole(places[:, digits:], wide - digits * width + 1).sort(1).values
        for n in range(digits):
            digit = self.images[shown[:, n]].flatten(1).float()
            there = _window(top[:, n], left[:, n] + n * width, (height, width), (channels, tall, wide))
            scene.scatter_add_(1, there, digit)
        each = self.images[0].numel()
        for _ in range(self.task.distractors):
            other = (rows + 1 + _whole(uniform.pop(), len(self) - 1)) % len(self)
            up, along = _whole(uniform.pop(), height - PIECE + 1), _whole(uniform.pop(), width - PIECE + 1)
            piece = _window(up, along, (PIECE, PIECE), (channels, height, width)) + other[:, None] * each
            top, left = _whole(uniform.pop(), tall - PIECE + 1), _whole(uniform.pop(), wide - PIECE + 1)
            there = _window(top, left, (PIECE, PIECE), (channels, tall, wide))
            scene.scatter_add_(1, there, self.images.view(-1)[piece].float())
        return (scene / 255).clamp_(max=1).view(-1, channels, tall, wide)

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`count` scenes of random images (B, C, H, W), and their labels (B, digits)."""
        device = self.images.device
        rows = torch.randint(len(self), (count,), generator=generator, device=device)
        uniform = torch.rand(count, self.draws, generator=generator, device=device)
        return self.paint(rows, uniform), self.answers(rows, uniform)


def _whole(uniform: Tensor, count: int) -> Tensor:
    """[0, 1) -> 0..count - 1, as int64. A float just below 1 may round up to count."""
    return (uniform * count).long().clamp_(max=count - 1)


def _window(top: Tensor, left: Tensor, window: tuple[int, int], shape: tuple[int, int, int]) -> Tensor:
    """Flat indices (B, C * h * w) of the pixels of a window, its corners (B,), in pictures of a shape (C, H, W)."""
    channels, height, width = shape
    planes, rows, columns = (torch.arange(n, device=top.device) for n in (channels, *window))
    inside = planes[:, None, None] * (height * width) + rows[:, None] * width + columns
    return (top * width + left)[:, None] + inside.flatten()


class Retina:
    """Square patches around a location, each scale twice as wide as the one before and averaged down to one size.

    Mnih et al. 2014, section 3.1. A location is (x, y), -1 the left or upper edge of the image and 1 the other one;
    what lies beyond an edge is black.

        maps = retina.prepare(images)            # once for an image: means of 1x1, 2x2, 4x4 ... at every pixel
        patches = retina.extract(maps, location) # then a glimpse is one gather, whatever its scales

    shape: (C, H, W) of the images; size: pixels, side of a patch; scales: patches a glimpse;
    patches: (scales * C, size, size), the shape of a glimpse, finest scale first.
    Raises ValueError for fewer than 1 or more than 4 scales.
    """

    def __init__(self, shape: Sequence[int], size: int, scales: int = 1, device: str | torch.device = "cpu") -> None:
        if not 1 <= scales <= 4:
            raise ValueError(f"a retina has 1 to 4 scales, got {scales}")
        self.channels, self.height, self.width = shape
        self.size, self.scales = size, scales
        self.patches = (scales * self.channels, size, size)
        factors = [2**k for k in range(scales)]
        # The map of a factor f begins f pixels before the image and ends one after it: both borders are black, and
        # locations further out are clamped to them.
        sides = [(self.height + f + 1, self.width + f + 1) for f in factors]
        base = np.cumsum([0] + [h * w for h, w in sides])
        offsets = [[f + i * f - size * f // 2 for i in range(size)] for f in factors]

        def column(values: Sequence) -> Tensor:
            return torch.tensor(values, device=device).view(scales, -1)

        self._base, self._offset = column(base[:-1].tolist()), column(offsets)
        self._across = column([w for _, w in sides])  # pixels a row of each map
        ends = [[self.width + f, self.height + f] for f in factors]
        self._ends = torch.tensor(ends, device=device).T[..., None].contiguous()  # (2, scales, 1) last column and row
        self._extent = torch.tensor([float(self.width), float(self.height)], device=device)
        self._right, self._down = torch.eye(2, dtype=torch.int64, device=device)  # made here: a copy would wait

    def prepare(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) float32 -> the maps of all scales, (B, C, P), from which `extract` gathers."""
        assert images.shape[1:] == (self.channels, self.height, self.width), images.shape
        pad = 2 ** (self.scales - 1)
        mean, maps = F.pad(images, (pad, pad, pad, pad)), []
        for k in range(self.scales):
            if k:
                half = 2 ** (k - 1)
                mean = mean[..., :-half, :] + mean[..., half:, :]
                mean = (mean[..., :-half] + mean[..., half:]) / 4
            skip = pad - 2**k
            height, width = self.height + 2**k + 1, self.width + 2**k + 1
            maps.append(mean[..., skip : skip + height, skip : skip + width].flatten(2))
        return torch.cat(maps, 2)

    def whole(self, maps: Tensor) -> Tensor:
        """The images (B, C, H, W) that were prepared (B, C, P)."""
        height, width = self.height + 2, self.width + 2  # the finest map has a border of one pixel
        return maps[..., : height * width].unflatten(2, (height, width))[..., 1:-1, 1:-1]

    def extract(self, maps: Tensor, location: Tensor, smooth: bool = False) -> Tensor:
        """Patches (B, scales * C, size, size) of images, prepared (B, C, P), around locations (B, 2).

        For a location of its own for each scale, location is (B, scales, 2), finest first, with smooth=False.

        A window is centered at the nearest corner of pixels; the finest of an odd size half a pixel after it. With
        smooth=True it is centered at the location itself, by bilinear interpolation, and the gradient reaches the
        location (Jaderberg et al. 2015, "Spatial transformer networks", equation 5).
        """
        place = (location.clamp(-1, 1) + 1) / 2 * self._extent
        if not smooth:
            return self._gather(maps, place.round().long())
        whole = place.detach().floor()
        x, y = (place - whole).T[..., None, None, None]  # (B, 1, 1, 1) each
        whole = whole.long()
        upper = (1 - x) * self._gather(maps, whole) + x * self._gather(maps, whole + self._right)
        lower = whole + self._down
        lower = (1 - x) * self._gather(maps, lower) + x * self._gather(maps, lower + self._right)
        return (1 - y) * upper + y * lower

    def _gather(self, maps: Tensor, middle: Tensor) -> Tensor:
        middle = middle.view(len(middle), -1, 2).mT[..., None]  # (B, 2, scales, 1), or one for all scales
        at = torch.minimum((middle + self._offset).clamp_(min=0), self._ends)
        columns, rows = at.unbind(1)  # (B, scales, size) each
        index = (rows * self._across + self._base)[..., :, None] + columns[..., None, :]  # (B, scales, size, size)
        index = index.flatten(1)[:, None].expand(-1, self.channels, -1)
        found = maps.gather(2, index).unflatten(2, (self.scales, self.size, self.size))
        return found.transpose(1, 2).flatten(1, 2)


FONT = (  # 3 x 5 pixels a digit, rows from the top
    "111101101101111 010110010010111 111001111100111 111001111001111 101101111001001 "
    "111100111001111 111100111101111 111001010010010 111101111101111 111101111001111"
)


def glyphs(count: int = 2_000, side: int = 28, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Drawn digits that need no download: (count, side, side) uint8 and labels (count,) int64, 0 to 9 in turn.

    Each is a character of 3 x 5 cells, 12 x 20 pixels at a side of 28, slightly rotated, sheared, scaled and shifted
    at random.
    """
    random = np.random.default_rng(seed)
    font = np.array([[int(c) for c in word] for word in FONT.split()], np.float32).reshape(10, 5, 3)
    labels = np.arange(count) % 10
    angle, shear = random.uniform(-0.2, 0.2, (2, count, 1, 1))
    size = random.uniform(0.85, 1.15, (count, 1, 1)) * side / 28
    x0, y0 = random.uniform(-3, 3, (2, count, 1, 1)) * side / 28
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    x, y = x - x0, y - y0
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    column = np.floor((x + shear * y) / (4 * size) + 1.5).astype(int)
    row = np.floor(y / (4 * size) + 2.5).astype(int)
    inside = (0 <= column) & (column < 3) & (0 <= row) & (row < 5)
    ink = font[labels[:, None, None], row.clip(0, 4), column.clip(0, 2)] * inside
    return torch.from_numpy((ink * 255).astype(np.uint8)), torch.from_numpy(labels)


class GlimpseVectorEnv(BatchVectorEnv):
    """N images, each seen through a window of its own.

    Observations (N, scales * C * size^2 + 2) float32: the patches in [0, 1], finest first, then the location they
    were seen at. Actions (N, 2 + digits * classes) in [-1, 1]: the next location (x, y), then for each digit a score
    for each class. The action after the last glimpse ends the game, with reward 1 if the largest score of every digit
    is that of its true class, else 0.

    Args:
        num_envs: N.
        images, labels: as Scenes takes them; drawn digits unless given.
        task: "Plain", "Translated" (60 x 60), "Cluttered" (60 x 60), "Cluttered100" or "Pairs" (100 x 100).
        glimpses: per image, the first included.
        size, scales: of the retina.
        device: of the images; observations are NumPy arrays on the CPU in any case.
        autoreset_mode: Gymnasium's, any of the three.
        render_mode: "rgb_array" or None.

    Raises:
        ValueError: unknown task, images of the wrong kind, or fewer than 1 glimpse.
    """

    def __init__(
        self,
        num_envs: int = 1,
        images: Tensor | None = None,
        labels: Tensor | None = None,
        task: str = "Plain",
        glimpses: int = 6,
        size: int = 8,
        scales: int = 2,
        device: str | torch.device = "cpu",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r}: choose one of {', '.join(TASKS)}")
        if glimpses < 1:
            raise ValueError(f"glimpses={glimpses}: an image needs at least one glimpse")
        if (images is None) != (labels is None):
            raise ValueError("give both images and labels, or neither")
        if images is None:
            images, labels = glyphs()
        self.device = torch.device(device)
        self.scenes = Scenes(images.to(device), labels.to(device), TASKS[task])
        self.retina = Retina(self.scenes.shape, size, scales, device)
        self.glimpses = glimpses
        pixels = math.prod(self.retina.patches)
        seen = Box(np.array([0.0] * pixels + [-1.0] * 2, np.float32), np.ones(pixels + 2, np.float32))
        digits = self.scenes.task.digits
        answer = Box(-1.0, 1.0, (2 + digits * self.scenes.classes,), np.float32)
        super().__init__(num_envs, seen, answer, autoreset_mode, render_mode, fps=2)
        self._images = torch.zeros(num_envs, *self.scenes.shape, device=device)
        self._maps = self.retina.prepare(self._images)
        self._labels = np.zeros((num_envs, digits), np.int64)
        self._location = np.zeros((num_envs, 2), np.float32)
        self._glimpsed = np.zeros(num_envs, np.int64)  # glimpses of this game so far

    def _play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ended = self._glimpsed == self.glimpses
        scores = actions[:, 2:].reshape(*self._labels.shape, -1)
        right = (scores.argmax(2) == self._labels).all(1)
        self._location = actions[:, :2].astype(np.float32).clip(-1, 1)
        self._glimpsed += 1
        return np.where(ended & right, 1.0, 0.0), ended, np.zeros(self.num_envs, bool)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """N pictures, each (H, W, 3) uint8: the image, the windows of its scales in red."""
        if self.render_mode is None:
            return None
        images = (self._images * 255).byte().cpu().numpy()
        return tuple(
            framed(image, location, self.retina.size, self.retina.scales)
            for image, location in zip(images, self._location, strict=True)
        )

    def _start(self, mask: np.ndarray) -> None:
        self._glimpsed[mask] = 1
        numbers = np.stack([self._randoms[n].random(3 + self.scenes.draws) for n in np.flatnonzero(mask)])
        self._location[mask] = 2 * numbers[:, 1:3] - 1
        uniform = torch.from_numpy(numbers.astype(np.float32)).to(self.device)
        rows = _whole(uniform[:, 0], len(self.scenes))
        chosen = torch.from_numpy(np.flatnonzero(mask)).to(self.device)
        self._images[chosen] = self.scenes.paint(rows, uniform[:, 3:])
        self._maps[chosen] = self.retina.prepare(self._images[chosen])
        self._labels[mask] = self.scenes.answers(rows, uniform[:, 3:]).cpu().numpy()

    def _observe(self) -> np.ndarray:
        patches = self.retina.extract(self._maps, torch.from_numpy(self._location).to(self.device))
        return np.concatenate([patches.flatten(1).cpu().numpy(), self._location], axis=1)


def framed(image: np.ndarray, location: np.ndarray, size: int, scales: int, zoom: int = 1) -> np.ndarray:
    """An image (C, H, W) uint8 in color (zoom * H, zoom * W, 3), the windows of a glimpse at (x, y) in red."""
    picture = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).repeat(zoom, 0).repeat(zoom, 1).copy()
    tall, wide = picture.shape[:2]
    x, y = np.rint((location + 1) / 2 * (image.shape[2], image.shape[1])).astype(int)
    for k in range(scales):
        side = size * 2**k
        left, top = (x - side // 2) * zoom, (y - side // 2) * zoom
        right, bottom = left + side * zoom - 1, top + side * zoom - 1
        red = (255, 64 * k, 64 * k)
        rows, columns = slice(max(top, 0), max(bottom + 1, 0)), slice(max(left, 0), max(right + 1, 0))
        for edge in (left, right):
            if 0 <= edge < wide:
                picture[rows, edge] = red
        for edge in (top, bottom):
            if 0 <= edge < tall:
                picture[edge, columns] = red
    return picture


class GlimpseEnv(SingleEnv):
    """One image at a time. options: of GlimpseVectorEnv."""

    metadata = SingleEnv.metadata | {"render_fps": 2}

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(
            GlimpseVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **options)
        )


gymnasium.register(
    id=ID,
    entry_point="envs.glimpse:GlimpseEnv",
    vector_entry_point="envs.glimpse:GlimpseVectorEnv",
)

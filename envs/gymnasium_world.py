"""Any Gymnasium environment: its vectors, its images, or its rendered screen.

make("CartPole")                    vectors (N, 4) float32
make("CartPole", pixels=True)       what the screen shows, (N, 4, 84, 84) uint8, gray, the last 4 frames
make("CarRacing")                   the environment's own images, (N, 3, 96, 96) uint8
make("package:Id-v0")               imports `package`, which registers the environment
"""

import atexit
import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import FlattenObservation

from envs import probe, spaces
from envs.serial import Fault, SerialVectorEnv
from envs.world import StepResult, World

EXTRAS = {
    "box2d": "box2d",
    "mujoco": "mujoco",
    "classic_control": "classic",
}  # Gymnasium's package: our extra
ROOMS = ("agents", "envs", "replay", "runs", "vision")
VERDICTS: dict[str, probe.Verdict] = {}  # of the probe, for each world that this process has opened
SPARE: dict[str, list[gymnasium.Env]] = {}  # open environments of one world at most, for its next GymnasiumWorld
GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601, as in ALE's and OpenCV's grays


def short_names() -> dict[str, str]:
    """Ours and Gymnasium's own, each by its newest version: {"Catch": "saccade/Catch-v0", ...}."""
    newest: dict[str, EnvSpec] = {}
    for spec in gymnasium.registry.values():
        own = spec.namespace == "saccade" or str(spec.entry_point).startswith("gymnasium.envs.")
        if own and (spec.name not in newest or (spec.version or 0) > (newest[spec.name].version or 0)):
            newest[spec.name] = spec
    return {name: spec.id for name, spec in newest.items()}


def registered(name: str) -> str | None:
    """Gymnasium's id of that name, whatever its capitals; None if there is none."""
    return name if name in gymnasium.registry else {i.lower(): i for i in gymnasium.registry}.get(name.lower())


def canonical(name: str) -> str | None:
    """The Gymnasium id that `name` means: "cartpole" -> "CartPole-v1"; None if there is none.

    Raises:
        ValueError: "package:Id-v0" with a package that cannot be imported.
    """
    if ":" in name:
        package, name = name.split(":", 1)
        try:
            importlib.import_module(package)
        except ImportError as error:
            room = package.split(".")[0]
            ours = f" ({room} is a package of this project: rename yours)" if room in ROOMS else ""
            raise ValueError(f"the package {package!r}, asked for as '{package}:{name}': {error}{ours}") from error
    short = {key.lower(): value for key, value in short_names().items()}
    return registered(name) or short.get(name.lower())


def _as_wide(action: np.ndarray, space: gymnasium.spaces.Box) -> np.ndarray:
    """float32 actions (N, A) in the dtype of their space, within its bounds if they are within them in float32.

    The bound 0.1 of float64 is 0.10000000149 in float32, which a world that checks its actions would refuse."""
    wide = action.astype(space.dtype)
    within = (action >= space.low.astype(np.float32)) & (action <= space.high.astype(np.float32))
    return np.where(within, np.clip(wide, space.low, space.high), wide)


class GymnasiumWorld(World):
    """N games of one Gymnasium environment, every episode with a seed of its own.

    Observations are vectors (float32; a Discrete observation becomes one-hot, integers of 8 or 16 bits are scaled to
    0 to 1) or pictures (C, H, W) uint8.

    Args:
        name: a Gymnasium id; or, with `one`, any name.
        evaluation: accepted in every world; here there are no lives, so it changes nothing.
        pixels: learn from the rendered picture instead of the environment's own observation.
        stack: frames in an observation of pictures; missing ones are black. None: 4 with `pixels`, else 1.
        size: height and width that pictures are resized to. None: 84 with `pixels`, else as they are.
        flicker: probability that a frame of a picture is black; see World.
        gray: pictures without color. None: with `pixels`, else as they are.
        channels_last: which axis of a picture has its channels. None: the smaller of the first and the last.
        flatten: make one vector of an observation of many parts (gymnasium.wrappers.FlattenObservation).
        rebuild: make a new environment for every game, so that none depends on those before. None: if a probe of some
            games finds such a dependence (probe.py).
        one: makes an environment, instead of Gymnasium's registry.
        constructor_options: arguments of the environment's constructor, e.g. continuous=True.

    Raises:
        ValueError: observations or actions of a kind that no agent here can take, or an unknown option.
        ImportError: an extra is missing; the message has the pip line.
    """

    def __init__(
        self,
        name: str,
        count: int,
        seed: int = 1,
        device: str | torch.device = "cpu",
        evaluation: bool = False,
        pixels: bool = False,
        stack: int | None = None,
        size: int | None = None,
        gray: bool | None = None,
        flicker: float = 0.0,
        channels_last: bool | None = None,
        flatten: bool = False,
        rebuild: bool | None = None,
        one: Callable[[], gymnasium.Env] | None = None,
        **constructor_options: Any,
    ) -> None:
        self.name = self._id = name
        self._spec = None if one else gymnasium.spec(name)
        self._games = self._open(count, constructor_options, flatten, rebuild, one)
        space, action = self._games.single_observation_space, self._games.single_action_space
        self._pixels = pixels
        self._onehot = isinstance(space, Discrete) and not pixels
        pictures = pixels or spaces.is_picture(space)
        if not pictures and (stack, size, gray, channels_last) != (None, None, None, None):
            raise ValueError(f"stack, size and gray are for pictures, and {name} gives vectors: add pixels=True")
        if not pixels:
            spaces.check_observations(name, space)
        spaces.check_actions(name, action)
        self._stack = (stack or (4 if pixels else 1)) if pictures else 1
        self._size = size or (84 if pixels else None)
        self._gray = pixels if gray is None else gray
        self._first_action = int(action.start) if isinstance(action, Discrete) else 0
        self._first_state = int(space.start) if isinstance(space, Discrete) else 0
        self._scale = spaces.scale_of(space)
        self._channels_last = pixels or (
            pictures and len(space.shape) == 3 and spaces.has_channels_last(name, space.shape, channels_last)
        )
        self._pictures = pictures
        if pictures:
            channels, *area = self._picture(self._reset([0] * count, np.ones(count, bool))).shape[1:]
            shape = (channels * self._stack, *area)  # measured: the size of a screen is not declared
            self._frames = np.zeros((count, *shape), np.uint8)
        else:
            shape = (int(space.n),) if self._onehot else space.shape
        options = dict(pixels=pixels, stack=stack, size=size, gray=gray, flicker=flicker, **constructor_options)
        later = dict(channels_last=channels_last, flatten=flatten or None, rebuild=rebuild)
        super().__init__(
            name=self._spec.name if self._spec and self._spec.namespace == "saccade" else name,
            family="pixels" if pictures else "control",
            protocol=None,
            count=count,
            seed=seed,
            device=device,
            observation_shape=shape,
            stack=self._stack,
            actions=int(action.n) if isinstance(action, Discrete) else None,
            action_low=None if isinstance(action, Discrete) else action.low,
            action_high=None if isinstance(action, Discrete) else action.high,
            options=options | {key: value for key, value in later.items() if value is not None},
            flicker=flicker,
        )

    def _open(
        self,
        count: int,
        constructor_options: dict[str, Any],
        flatten: bool,
        rebuild: bool | None,
        given: Callable[[], gymnasium.Env] | None,
    ) -> VectorEnv:
        spec = self._spec
        try:
            if spec:
                entry = spec.entry_point or spec.vector_entry_point
                creator = entry if callable(entry) else load_env_creator(entry)
                modes = getattr(creator, "metadata", {}).get("render_modes", [])
                if "rgb_array" in modes:  # others may not know the argument at all
                    constructor_options = {"render_mode": "rgb_array", **constructor_options}
                if spec.namespace == "saccade" or not spec.entry_point:
                    return self._open_vector(count, constructor_options)

            def one() -> gymnasium.Env:
                env = given() if given else gymnasium.make(spec, disable_env_checker=True, **constructor_options)
                return FlattenObservation(env) if flatten else env

            self._key = f"{spec} {constructor_options} {flatten}" if spec else ""
            if rebuild is None:
                verdict = self._probe(one)
                rebuild, self._seeded = verdict == "kept", verdict != "unseeded"
            if not self._seeded:
                self.caveat = (
                    f"no seed determines {self._id}: two games from one seed differ. A resumed run cuts its games "
                    "under way short and begins others, and so is not bit for bit the run that was never stopped"
                )
            games = SerialVectorEnv(one, count, rebuild, None if rebuild else SPARE.get(self._key))
            if "" in SPARE:  # no name opens that world again
                keep_spare("", [])
            return games
        except (ImportError, DependencyNotInstalled) as error:
            raise self._missing(error) from error
        except TypeError as error:
            raise ValueError(f"{self._id} does not take these options: {error}") from error

    def _open_vector(self, count: int, constructor_options: dict[str, Any]) -> VectorEnv:
        """A vector environment, which must allow to reset each of its games by itself."""
        wanted = AutoresetMode.DISABLED
        try:
            games = gymnasium.make_vec(
                self._spec, count, "vector_entry_point", autoreset_mode=wanted, **constructor_options
            )
        except TypeError as error:
            if "autoreset_mode" not in str(error):
                raise
            games = None
        if games is None or games.metadata.get("autoreset_mode") != wanted:
            raise ValueError(
                f"{self._id} is registered as a vector environment only, and does not take autoreset_mode=DISABLED "
                "and reset(options={'reset_mask': ...}), so that no game of it can begin by a seed of its own: add "
                "them as envs/vector_env.py does, or register a single environment (entry_point=...)"
            )
        return games

    def _probe(self, one: Callable[[], gymnasium.Env]) -> probe.Verdict:
        """Whether a seed determines a game: the probe's verdict, cached for each registered world."""
        if self._key and self._key in VERDICTS:
            return VERDICTS[self._key]
        verdict, opened = probe.probe(one)
        keep_spare(self._key, opened)
        if self._key:
            VERDICTS[self._key] = verdict
        return verdict

    def _missing(self, error: Exception) -> ImportError:
        entry = str(self._spec.entry_point) if self._spec else ""
        extra = EXTRAS.get(entry.removeprefix("gymnasium.envs.").split(".")[0])
        way_out = f'pip install -e ".[{extra}]"' if extra else str(error)
        return ImportError(f"{self._id} needs a package that is not installed: {way_out}")

    def _restart(self, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
        observation = self._reset(seeds.tolist(), mask)
        if not self._pictures:
            return self._vector(observation)
        picture = self._picture(observation)
        before = self._frames.copy()
        before[mask] = 0
        before[mask, -picture.shape[1] :] = picture[mask]
        self._frames = before
        return before

    def _reset(self, seeds: list[int], mask: np.ndarray) -> np.ndarray:
        try:
            return self._games.reset(seed=seeds, options={"reset_mask": mask})[0]
        except Fault as fault:
            raise self._fault(fault.n, fault.what, at_reset=True) from None

    def _emit(self, action: np.ndarray) -> None:
        # Gymnasium's environments run here, in this process: there is nothing to overlap with.
        if self.actions is None:
            action = _as_wide(action, self._games.single_action_space)
        try:
            self._outcome = self._games.step(action + self._first_action if self._first_action else action)
        except Fault as fault:
            raise self._fault(fault.n, fault.what, at_reset=False) from None

    def _collect(self) -> StepResult:
        observation, reward, terminated, truncated, _ = self._outcome
        if self._pictures:
            picture = self._picture(observation)
            self._frames = np.concatenate([self._frames[:, picture.shape[1] :], picture], axis=1)
            arrived = self._frames
        else:
            arrived = self._vector(observation)
        with np.errstate(over="ignore"):  # as in _vector
            reward = reward.astype(np.float32)
        return StepResult(arrived, arrived, reward, terminated.copy(), truncated & ~terminated)

    def _vector(self, observation: np.ndarray) -> np.ndarray:
        """(N, D) float32, in memory of its own: the games write the next one into the same array."""
        if self._onehot:
            vector = np.zeros((len(observation), *self.observation_shape), np.float32)
            vector[np.arange(len(observation)), observation - self._first_state] = 1
            return vector
        with np.errstate(over="ignore") if observation.dtype == np.float64 else contextlib.nullcontext():
            vector = observation.astype(np.float32)  # what is too large becomes infinite, and the world says so
        return vector if self._scale is None else (vector - self._scale[0]) / self._scale[1]

    def _picture(self, observation: np.ndarray) -> np.ndarray:
        """(N, C, H, W) uint8, in memory of its own."""
        images = self._screens() if self._pixels else observation
        if images.ndim == 3:
            images = images[:, None]
        elif self._channels_last:
            images = images.transpose(0, 3, 1, 2)
        if self._gray and images.shape[1] not in (1, 3):
            raise ValueError(f"{self._id} has pictures of {images.shape[1]} channels: gray is made of 3 colors only")
        if self._gray and images.shape[1] == 3:
            images = np.rint(np.einsum("nchw,c->nhw", images.astype(np.float32), GRAY))[:, None]
        if self._size and images.shape[2:] != (self._size, self._size):
            images = torch.from_numpy(np.ascontiguousarray(images, np.float32))
            images = torch.nn.functional.interpolate(images, (self._size, self._size), mode="area").round().numpy()
        return images.astype(np.uint8, order="C")

    def _screens(self) -> np.ndarray:
        if self._games.render_mode != "rgb_array":
            raise ValueError(f"{self._id} cannot be rendered as a picture")
        try:
            return np.stack(self._games.render())
        except DependencyNotInstalled as error:
            raise self._missing(error) from error

    def render(self) -> np.ndarray:
        """The screens in color, (N, H, W, 3) uint8."""
        return self._screens()

    def close(self, spare: bool = False) -> None:
        """Close the environments; spare: leave them open for the next world of the same environment."""
        if spare and isinstance(self._games, SerialVectorEnv) and self._seeded and not self._games.rebuild:
            keep_spare(self._key, self._games.release())
        else:
            self._games.close()


def keep_spare(key: str, opened: list[gymnasium.Env]) -> None:
    """Keep open environments of a registered world (key "": of any other), and close those kept before of others."""
    for other in [each for each in SPARE if each != key or not key]:
        for env in SPARE.pop(other):
            env.close()
    if opened:
        SPARE.setdefault(key, []).extend(opened)


atexit.register(keep_spare, "", [])  # which closes all

"""Objects of Freeway from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226), whose offsets to the screen were compared with its pixels.
"""

from collections.abc import Sequence

from envs.objects.scene import BORDER, HEIGHT, WIDTH, Color, Game, Object, object_at

ROAD = (BORDER, 0, WIDTH, HEIGHT)
CHICKEN = (252, 252, 84)
CARS: tuple[Color, ...] = (  # of the lanes from the top
    *((167, 26, 26), (180, 231, 117), (105, 105, 15), (228, 111, 111), (24, 26, 167)),
    *((162, 98, 33), (84, 92, 214), (184, 50, 50), (135, 183, 84), (210, 210, 64)),
)


def read(ram: Sequence[int]) -> list[Object]:
    """The player's chicken, the other one, and ten cars: 128 bytes -> objects."""
    found = object_at("chicken", 44, 193 - ram[14], 6, 8, CHICKEN, field=ROAD, reach=1)
    found += object_at("chicken", 108, 193 - ram[15], 6, 8, CHICKEN, field=ROAD, reach=1)
    for lane, color in enumerate(CARS):
        found += object_at("car", ram[117 - lane] - 3, 28 + 16 * lane, 8, 8, color, field=ROAD, reach=1)
    return found


GAME = Game(("chicken", "car"), read, ("chicken",))

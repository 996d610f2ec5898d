"""Objects of Boxing from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226), whose offsets to the screen were compared with its pixels.
"""

from collections.abc import Sequence

from envs.objects.scene import Game, Object, object_at

WHITE, BLACK = (214, 214, 214), (0, 0, 0)
RING = (32, 36, 128, 180)  # within the ropes
ARM = 20  # pixels that a punch reaches


def read(ram: Sequence[int]) -> list[Object]:
    """The two boxers: 128 bytes -> objects."""
    player = object_at("player", ram[32] + 5, ram[34] + 38, 14, 47, WHITE, field=RING, reach=ARM)
    opponent = object_at("opponent", ram[33] + 3, ram[35] + 37, 14, 47, BLACK, field=RING, reach=ARM)
    return player + opponent


GAME = Game(("player", "opponent"), read, ("player", "opponent"))

"""Objects of Pong from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226), whose offsets to the screen were compared with its pixels.
"""

from collections.abc import Sequence

from envs.objects.scene import WIDTH, Game, Object, Pursuit, object_at

FIELD = (0, 34, WIDTH, 194)  # between the white borders
PLAYER, OPPONENT, BALL = (92, 186, 92), (213, 130, 74), (236, 236, 236)


def read(ram: Sequence[int]) -> list[Object]:
    """The ball and both paddles: 128 bytes -> objects."""
    found = []
    if ram[54] and ram[49] > 49:
        found += object_at("ball", ram[49] - 49, ram[54] - 15, 2, 5, BALL, field=FIELD)
    if ram[51] > 13:
        found += object_at("player", 140, ram[51] - 14, 4, 16, PLAYER, field=FIELD)
    if ram[50] > 18:
        found += object_at("opponent", 16, ram[50] - 15, 4, 16, OPPONENT, field=FIELD)
    return found


GAME = Game(
    ("player", "opponent", "ball"), read, ("ball", "player", "opponent"), pursuit=Pursuit("player", "ball", 1, 2, 3)
)

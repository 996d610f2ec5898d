"""Objects of Ms. Pac-Man from console memory, without the dots.

Addresses: Anand et al. 2019 (arXiv 1906.08226), whose offsets to the screen were compared with its pixels. The
console has two sprites, so that the game shows not all ghosts in every frame: from byte 41 on stand the numbers of
those that it draws, in the upper four bits, one more than byte 33 says (255: none). Power pills of the two sides take
turns, eight frames each, by byte 30, which the game counts before it draws them.
"""

from collections.abc import Sequence

from envs.objects.scene import Color, Game, Object, object_at

PLAYER, PILL, FRIGHTENED, FLASHING = (210, 164, 74), (228, 111, 111), (66, 114, 194), (214, 214, 214)
GHOSTS: tuple[Color, ...] = ((180, 122, 48), (84, 184, 153), (198, 89, 179), (200, 72, 72))
PILLS = ((4, 148, 146), (8, 148, 14), (16, 8, 147), (32, 8, 15))  # bit, left, top
FRUIT = 4  # its number among the ghosts'
FRUITS: tuple[Color, ...] = (  # cherry, strawberry, orange, pretzel, apple, pear, banana
    *((184, 50, 50), (184, 50, 50), (198, 108, 58), (162, 162, 42), (184, 50, 50), (110, 156, 66), (198, 108, 58)),
)


def read(ram: Sequence[int]) -> list[Object]:
    """Player, ghosts, fruit and power pills that are drawn: 128 bytes -> objects."""
    found = object_at("player", ram[10] - 13, ram[16] + 1, 9, 10, PLAYER, reach=1)
    drawn = {ram[41 + place] >> 4 for place in range(min((ram[33] + 1) % 256, 5))}
    for number, color in enumerate(GHOSTS):
        if number in drawn and ram[47]:
            colors = (color, FRIGHTENED, FLASHING)
            found += object_at("ghost", ram[6 + number] - 12, ram[12 + number] + 1, 8, 10, *colors, reach=1)
    if FRUIT in drawn and ram[11] and ram[17]:
        found += object_at("fruit", ram[11] - 13, ram[17] + 1, 9, 10, FRUITS[min(ram[123] >> 4, 6)])
    for bit, left, top in PILLS:
        if ram[117] & bit and (left < 80) == bool(ram[30] + 1 & 8):
            found += object_at("power pill", left, top, 4, 7, PILL)
    return found


GAME = Game(("player", "ghost", "fruit", "power pill"), read, ("player",), lag=True)

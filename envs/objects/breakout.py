"""Objects of Breakout from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226) for ball and paddle. The wall is six rows of 36 bits, two bits a
brick, in six bytes a row as the console's playfield registers have them, right half first: PF0 is drawn from bit 4
on, PF1 from its highest bit, PF2 from its lowest.
"""

from collections.abc import Sequence

from envs.objects.scene import Color, Game, Object, Pursuit, object_at

RED = (200, 72, 72)  # of ball, paddle and upper row
ROWS: tuple[Color, ...] = (RED, (198, 108, 58), (180, 122, 48), (162, 162, 42), (72, 160, 72), (66, 72, 200))
TOP, TALL, WIDE = 57, 6, 8  # pixels: the wall's upper edge, and a brick
FIELD = (8, 32, 152, 196)  # within the walls
BITS = (  # (byte of the row, lower bit) of each brick, from left to right
    *((5, 6), (4, 6), (4, 4), (4, 2), (4, 0), (3, 0), (3, 2), (3, 4), (3, 6)),
    *((2, 4), (2, 6), (1, 6), (1, 4), (1, 2), (1, 0), (0, 0), (0, 2), (0, 4)),
)


def standing(ram: Sequence[int], row: int) -> list[bool]:
    """Which of the 18 bricks of a row stand, from left to right. row: from 0, the upper one."""
    return [bool(ram[6 * byte + 5 - row] >> bit & 1) for byte, bit in BITS]


def read(ram: Sequence[int]) -> list[Object]:
    """Ball, paddle, and each unbroken stretch of bricks of a row: 128 bytes -> objects."""
    found = []
    if ram[101]:
        found += object_at("ball", ram[99] - 49, ram[101] + 9, 2, 4, RED, field=FIELD)
    found += object_at("paddle", ram[72] - 47, 189, 16, 4, RED, field=FIELD)
    for row, color in enumerate(ROWS):
        begin = 0
        for column, stands in enumerate([*standing(ram, row), False]):
            if not stands:
                if column > begin:
                    left, width = WIDE * (begin + 1), WIDE * (column - begin)
                    found += object_at("bricks", left, TOP + TALL * row, width, TALL, color)
                begin = column + 1
    return found


GAME = Game(("paddle", "ball", "bricks"), read, ("ball", "paddle"), pursuit=Pursuit("paddle", "ball", 0, 3, 2))

"""Objects of Space Invaders from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226), whose offsets to the screen were compared with its pixels. The game
draws its own shot in one frame, and the aliens' in the next: byte 74 says in which.
"""

from collections.abc import Sequence

from envs.objects.scene import WIDTH, Game, Object, object_at

CANNON, ALIEN, SHIELD, SHIP, SHOT = (50, 132, 50), (134, 134, 29), (181, 83, 40), (151, 25, 122), (142, 142, 142)
SKY = (0, 0, WIDTH, 195)  # above the ground
OWN, ALIENS = ((87, 85),), ((83, 81), (84, 82))  # bytes of x and y of shots


def read(ram: Sequence[int]) -> list[Object]:
    """Cannon, aliens, shields, the command ship, shots: 128 bytes -> objects."""
    found = []
    for x, y in OWN if ram[74] & 1 else ALIENS:
        top = 2 * ram[y] + 4
        if 21 < top < 196:
            found += object_at("shot", ram[x] - 2, top, 1, 10, SHOT, field=SKY, reach=1)
    found += object_at("cannon", ram[28] - 1, 185, 7, 10, CANNON, field=SKY)
    if ram[30] and ram[30] != 180:
        found += object_at("ship", ram[30] - 1, 12, 7, 8, SHIP)
    for row in range(6):  # from below
        for column in range(6):
            if ram[18 + row] >> column & 1:
                top = 31 + 2 * ram[16] + 18 * (5 - row)
                found += object_at("alien", ram[26] - 1 + 16 * column, top, 8, 10, ALIEN)
    for number in range(3):
        lines = ram[43 + 9 * number : 52 + 9 * number]
        rows = [row for row, line in enumerate(lines) if line]
        if rows:
            tall = 2 * (rows[-1] + 1 - rows[0])
            found += object_at("shield", 42 + 32 * number, 157 + 2 * rows[0], 8, tall, SHIELD)
    return found


GAME = Game(("cannon", "alien", "shield", "shot", "ship"), read, ("cannon", "ship"))

"""Objects of Seaquest from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226) and OCAtari (Delfosse et al. 2024), compared with the screen's pixels.
"""

from collections.abc import Sequence

from envs.objects.palette import color_of
from envs.objects.scene import BORDER, HEIGHT, WIDTH, Game, Object, object_at

SEA = (BORDER, 0, WIDTH, HEIGHT)
YELLOW, BLUE, GRAY = (187, 187, 53), (66, 72, 200), (170, 170, 170)


def read(ram: Sequence[int]) -> list[Object]:
    """Submarine, torpedoes, and of each of four lanes sharks, submarines, a diver: 128 bytes -> objects."""
    found = []
    if 0 < ram[103] < WIDTH:
        found += object_at("torpedo", ram[103], ram[97] + 40, 8, 1, YELLOW, field=SEA)
    if not ram[105]:
        found += object_at("player", ram[70], ram[97] + 33, 16, 11, YELLOW, field=SEA)
    if ram[60] >= 2 and ram[118] < WIDTH:
        found += object_at("submarine", ram[118], 45, 8, 11, GRAY, field=SEA)
    for lane in range(4):  # from below
        submarines = 3 < ram[89 + lane] % 8 < 7
        y, color = 141 - 24 * lane, color_of(ram[44 + lane])
        for slot in range(3):
            if ram[36 + lane] >> 2 - slot & 1:
                x = (ram[30 + lane] + 16 * slot) % 256
                if submarines:
                    found += object_at("submarine", x, y - 1, 8, 11, color, field=SEA)
                else:
                    found += object_at("shark", x, y + ram[93] - 4, 8, 7, color, field=SEA)
        x = ram[71 + lane]
        if 0 < x < WIDTH:
            if submarines:
                found += object_at("enemy torpedo", x + 2, y + 4, 6, 4, BLUE, field=SEA)
            else:
                found += object_at("diver", x, y - 4, 8, 14, BLUE, field=SEA)
    return found


GAME = Game(("player", "torpedo", "shark", "submarine", "enemy torpedo", "diver"), read, ("player",))

"""Objects of Frostbite from console memory.

Addresses: Anand et al. 2019 (arXiv 1906.08226) and OCAtari (Delfosse et al. 2024), compared with the screen's pixels.
"""

from collections.abc import Sequence

from envs.objects.scene import BORDER, HEIGHT, WIDTH, Color, Game, Object, object_at

FIELD = (BORDER, 0, WIDTH, HEIGHT)
BAILEY = ((198, 108, 58), (162, 98, 33), (142, 142, 142), (162, 162, 42))  # face, cap, coat, boots
BEAR, IGLOO, ICE, CROSSED = (111, 111, 111), (142, 142, 142), (214, 214, 214), (84, 138, 210)
ANIMALS: tuple[tuple[str, Color, range], ...] = (  # class, color, numbers of its pictures
    ("bird", (132, 144, 252), range(0, 33)),
    ("crab", (213, 130, 74), range(33, 60)),
    ("clam", (210, 210, 64), range(60, 100)),
    ("fish", (111, 210, 111), range(100, 256)),
)
IGLOO_ROWS = (*(4,) * 4, *(8,) * 4, *(13,) * 4, 16, 16, 20, 20)  # pixels of its height, by blocks that stand less one


def read(ram: Sequence[int]) -> list[Object]:
    """Player, bear, igloo, animals, ice floes: 128 bytes -> objects."""
    found = []
    if ram[106] != 26 and ram[107] < 18:  # what has sunk into the water is not seen
        top, tall = ram[100] + 29 + ram[107], 18 - ram[107]
        found += object_at("player", ram[102], top, 8, tall, *BAILEY, field=FIELD)
    if ram[104] != 140:
        found += object_at("bear", ram[104] + 3, 58, 14, 16, BEAR, field=FIELD)
    for lane in range(4):  # from below
        if 0 < ram[84 + lane] < WIDTH or ram[88 + lane]:
            name, color, _ = next(each for each in ANIMALS if ram[35 + lane] in each[2])
            for shift in (0, 32)[: 2 if ram[88 + lane] else 1]:
                found += object_at(name, ram[84 + lane] + shift, 160 - 26 * lane, 8, 7, color, field=FIELD)
    if ram[77] < len(IGLOO_ROWS):
        tall = IGLOO_ROWS[ram[77]]
        found += object_at("igloo", 112, 55 - tall, min(8 * (ram[77] + 1), 32), tall, IGLOO)
    for lane in range(4):
        color = ICE if ram[43 + lane] == 12 else CROSSED
        for left, width in floes(ram[31 + lane], ram[30]):
            found += object_at("ice floe", left, 174 - 26 * lane, width, 7, color, field=FIELD)
    return found


def floes(place: int, split: int) -> list[tuple[int, int]]:
    """(left, width) of a lane's ice floes: three whole ones, or six halves that drift apart."""
    if split == 8:
        return [((place + 32 * number - 8) % WIDTH, 24) for number in range(3)]
    space = abs(split - 8)
    shifts = (-8 - max(0, space - 4), -16 + min(space, 4))
    return [((place + 16 * number + shifts[number % 2]) % WIDTH, 16) for number in range(6)]


GAME = Game(("player", "bear", "igloo", "bird", "crab", "clam", "fish", "ice floe"), read, ("player", "bear"))

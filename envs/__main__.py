"""Lists the worlds that need no version in their names, for --env: python -m envs"""

import textwrap

import envs

if __name__ == "__main__":
    for kind, names in envs.WORLDS.items():
        print(textwrap.fill(", ".join(names), 80, initial_indent=f"{kind}: ", subsequent_indent="    "))
    print("and any id of Gymnasium's, LunarLander-v3, or package:Id-v0 of a package of your own")

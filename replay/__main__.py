"""What is in replay, a line each; it has no programs."""

import replay

if __name__ == "__main__":
    print(replay.__doc__)

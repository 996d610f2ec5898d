"""The programs of vision, a line each; python -m vision NAME runs one of them."""

from runs import programs

if __name__ == "__main__":
    programs.main(("vision",), "python -m vision")

"""The programs of agents, a line each; python -m agents NAME runs one of them."""

from runs import programs

if __name__ == "__main__":
    programs.main(("agents",), "python -m agents")

"""The programs of runs, a line each; python -m runs NAME runs one of them."""

from runs import programs

if __name__ == "__main__":
    programs.main(("runs",), "python -m runs")

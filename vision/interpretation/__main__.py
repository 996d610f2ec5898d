"""Attribution maps, or a page of all that a classifier has learned: which pixels its decisions depend on."""

import runs
from vision.interpretation import explain, report


def main(config: explain.Config) -> None:
    if config.report:
        report.write(config)
    else:
        explain.main(config)


if __name__ == "__main__":
    runs.launch(main, explain.Config, None, "vision.interpretation", explain.__doc__)

"""Attribution maps: which pixels a classifier's decisions depend on."""

import runs
from vision.interpretation import explain

if __name__ == "__main__":
    runs.launch(explain.main, explain.Config, None, "vision.interpretation", explain.__doc__)

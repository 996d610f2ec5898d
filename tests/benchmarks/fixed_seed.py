"""Fixed-seed metrics of every program as hashes: a refactoring leaves them as they are, bit for bit.

    python tests/benchmarks/fixed_seed.py                        # runs all programs, writes fixed_seed.json
    python tests/benchmarks/fixed_seed.py --only dqn-Catch       # some of them
    python tests/benchmarks/fixed_seed.py --check FILE           # compares with the hashes of an earlier commit

Each program trains for some thousand steps on one thread of the CPU. What is hashed is metrics.jsonl: losses, values,
returns and evaluations. Hashes compare on one machine with one version of torch only.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
ATARI = "--steps 2048 --worlds 8 --learn-start 512 --capacity 5000"
CONTROL = "--steps 4000 --evaluate-every 2000 --evaluate-games 5"
PROGRAMS = {
    "dqn-Catch": f"agents.dqn --env Catch {CONTROL}",
    "dqn-CartPole": f"agents.dqn --env CartPole {CONTROL}",
    "dqn-Pong": f"agents.dqn --env Pong {ATARI}",
    **{
        f"{name}-Catch": f"agents.rainbow --only {name} --env Catch {CONTROL}"
        for name in ("dueling", "prioritized", "n_step", "noisy", "c51", "qr_dqn", "iqn", "munchausen")
    },
    "double-Catch": f"agents.rainbow --only double --env Catch {CONTROL}",
    "rainbow-Catch": f"agents.rainbow --env Catch {CONTROL}",
    "rainbow-Pong": f"agents.rainbow --env Pong {ATARI}",
    "r2d2-Catch": f"agents.r2d2 --env Catch {CONTROL}",
    "r2d2-CartPole": f"agents.r2d2 --env CartPole {CONTROL}",
    "pqn-Catch": f"agents.pqn --env Catch {CONTROL}",
    "pqn-Pong": "agents.pqn --env Pong --steps 2048 --worlds 8 --rollout 64 --minibatches 4",
    "reinforce-CartPole": f"agents.reinforce --env CartPole {CONTROL}",
    "a2c-CartPole": f"agents.a2c --env CartPole {CONTROL}",
    "ppo-Catch": f"agents.ppo --env Catch {CONTROL}",
    "ppo-CartPole": f"agents.ppo --env CartPole {CONTROL}",
    "ppo-Pendulum": f"agents.ppo --env Pendulum {CONTROL}",
    "ppo-Pong": "agents.ppo --env Pong --steps 2048 --worlds 8 --rollout 64",
    "soft_attention-Catch": f"agents.soft_attention --env Catch {CONTROL}",
    "hard_attention-Catch": f"agents.hard_attention --env Catch {CONTROL}",
    "recurrent_attention-glyphs": "agents.recurrent_attention --env Cluttered --images glyphs --steps 10000 "
    "--evaluate-every 5000 --log-every 1000",
    "dram-glyphs": "agents.recurrent_attention.dram --env Pairs --images glyphs --steps 5000 --evaluate-every 2500 "
    "--log-every 500",
    "q_learning-FrozenLake": "agents.tabular --env FrozenLake --method q_learning --steps 20000",
    "value_iteration-FrozenLake": "agents.tabular --env FrozenLake --method value_iteration",
    "classification-shapes": "vision.classification --steps 12000 --evaluate-every 4000",
    "classification-resnet18": "vision.classification --backbone resnet18 --width 0.25 --steps 4000 "
    "--evaluate-every 2000",
}


def metrics(command: str) -> str:
    """SHA-256 of the metrics that a command writes."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--device cpu --threads 1 --wandb disabled --folder {folder}".split()
        run = [sys.executable, "-m", *command.split(), *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command} failed:\n{done.stderr[-2000:]}")
        (file,) = Path(folder).rglob("metrics.jsonl")
        return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--check", type=Path, help="hashes to compare with")
    parser.add_argument("--out", type=Path, default=Path("fixed_seed.json"))
    asked = parser.parse_args()
    known = json.loads(asked.check.read_text())["metrics"] if asked.check else {}
    found, different = {}, []
    for name in asked.only:
        begin = time.monotonic()
        found[name] = metrics(PROGRAMS[name])
        same = "" if name not in known else "  equal" if known[name] == found[name] else "  DIFFERENT"
        different += [name] * (same == "  DIFFERENT")
        print(f"{name:28}{found[name][:16]}  {time.monotonic() - begin:5.1f} s{same}", flush=True)
    about = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.processor()}
    asked.out.write_text(json.dumps(about | {"metrics": found}, indent=1) + "\n")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())

"""Every program of agents/ on a device that is not the CPU and has no float64, as Apple's MPS (stand_in.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FEW = "--steps 160 --evaluate-every 100 --evaluate-games 2 --worlds 4 --log-every 50 --film-seconds 0 --save-every 0"
REPLAY = "--learn-start 64 --capacity 1000 --batch 8"
ROLLOUT = "--rollout 9"
FAMILY = ("double", "dueling", "n_step", "noisy", "c51", "qr_dqn", "iqn", "munchausen")  # of agents.rainbow
RUNS = {
    "ppo": f"--env Catch {ROLLOUT}",
    **{
        f"{name} slow": words
        for name, words in {
            "rainbow": f"--env CartPole {REPLAY}",
            "prioritized": f"--env Catch {REPLAY}",
            "r2d2": "--env Catch --learn-start 128 --capacity 1000 --batch 4",
            "dqn": f"--env CartPole {REPLAY}",
            "pqn": f"--env Catch {ROLLOUT}",
            "a2c": "--env CartPole --scale --scale-rewards",
            "reinforce": "--env Pendulum",
            "ppo Pendulum": "--env Pendulum --rollout 32 --minibatches 2",
            "ppo LSTM": f"--env Catch {ROLLOUT} --lstm-units 16",
            "soft_attention": f"--env Catch {ROLLOUT}",
            "hard_attention": f"--env Catch {ROLLOUT}",
            **{name: f"--env Catch {REPLAY}" for name in FAMILY},
        }.items()
    },
}


def started(folder: Path, *words: str) -> subprocess.CompletedProcess:
    whole = [sys.executable, "-m", "tests.stand_in", *words, "--folder", str(folder), "--wandb", "disabled"]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "slow" in n else n for n in RUNS])
def test_no_float64_and_nothing_of_the_cpu_comes_to_the_device(name, tmp_path):
    done = started(tmp_path, f"agents.{name.split()[0]}", *RUNS[name].split(), *FEW.split())
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    (metrics,) = tmp_path.glob("*/*/metrics.jsonl")
    assert "loss/" in metrics.read_text() and "eval/return" in metrics.read_text()


CHECKS = {
    "torch.zeros(2, dtype=torch.float64, device=d)": "no float64",
    "torch.ones(2, device=d).double()": "no float64",
    "torch.ones(2, device=d) + torch.ones(2)": "tensors of the CPU",
    "torch.ones(2, device=d) + torch.ones(())": None,
    "torch.arange(3, device=d)[torch.tensor([1], device=d)].cpu().double()": None,
}


@pytest.mark.slow
def test_the_stand_in_refuses_what_a_device_refuses(tmp_path):
    for words, refused in CHECKS.items():
        path = tmp_path / "asked.py"
        path.write_text(f"import torch\nd = 'standin'\nassert torch.ones(1, device=d).device.type == d\n{words}\n")
        code = f"import runpy; runpy.run_module = lambda *a, **k: runpy.run_path({str(path)!r}); "
        code += "import sys; sys.argv = ['x', 'y']; from tests import stand_in; stand_in.main()"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode == 0) == (refused is None) and (refused or "") in done.stderr, words + done.stderr

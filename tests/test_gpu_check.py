"""tools/gpu_check.py: verdicts from records, the README's table, and a dry run of all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fastnn as fn
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench.gpu.goals import GOALS, Bar, Goal, judge, line  # noqa: E402

available = fn.cuda.is_available()
emulated = available and "emulator" in fn.cuda.device_description()
GOAL = Goal("G3", "norms", [Bar("C", 80, "x1024$"), Bar("torch eager", 1.25)])
RECORDS = [
    {"goal": "G3", "title": "a 8x1024", "pct_C": 84.0, "fastnn_us": 10.0,
     "peers": {"torch eager": 20.0}},
    {"goal": "G3", "title": "b 8x1024", "pct_C": 81.0, "fastnn_us": 10.0,
     "peers": {"torch eager": 9.0}},
    {"goal": "G3", "title": "c 8x256", "pct_C": 20.0, "fastnn_us": 10.0, "peers": {}},
    {"goal": "G4", "title": "d 8x1024", "pct_C": 1.0, "fastnn_us": 1.0, "peers": {}},
]  # fmt: skip


def test_a_goal_is_passed_by_the_worst_share_and_the_mean_ratio():
    verdict = judge(GOAL, RECORDS)
    assert verdict["verdict"] == "PASS"
    assert [bar["value"] for bar in verdict["bars"]] == [81.0, pytest.approx(1.8**0.5)]
    assert (
        line(verdict) == "G3   PASS norms: 81 (x1024$ >= 80 % of C); 1.34 (>= 1.25 x torch eager)"
    )


def test_what_was_not_measured_or_cannot_be_is_missed():
    assert judge(GOAL, RECORDS[2:])["verdict"] == "MISS"
    assert line(judge(GOAL, [])) == (
        "G3   MISS norms: not measured (x1024$ >= 80 % of C); not measured (>= 1.25 x torch eager)"
    )
    slower = [{**RECORDS[0], "pct_C": 79.9}]
    assert judge(GOAL, slower)["verdict"] == "MISS"
    missing = Goal("G10", "a step", [], missing="none yet")
    assert line(judge(missing, [])) == "G10  MISS a step: none yet; "


def test_times_and_sizes_have_a_largest():
    goal = Goal("G14", "calls", [Bar("us", 4, at_most=True)])
    records = [{"goal": "G14", "title": "relu", "fastnn_us": us} for us in (3.0, 3.9)]
    assert judge(goal, records)["verdict"] == "PASS"
    assert judge(goal, [*records, {**records[0], "fastnn_us": 4.1}])["verdict"] == "MISS"


def test_there_is_a_goal_for_each_id():
    assert [goal.id for goal in GOALS] == [f"G{i}" for i in range(1, 18)]


def test_the_lines_to_check_in_name_the_fastest_path():
    from bench.gpu.products import measured_lines

    peers = {"fastnn cublaslt": 9.0, "fastnn tiles": 30.0, "torch eager": 1.0}
    record = {"title": "wgmma float32 NT 64x8x32", "fastnn_us": 10.0, "peers": peers}
    slower = {**record, "title": "wgmma bfloat16 TN 1x2x3", "peers": {"torch eager": 1.0}}
    failed = {"title": "wgmma float16 NN 1x2x3"}
    assert measured_lines([record, {"case": "probe"}, slower, failed]) == [
        "{kFloat32, true, true, 64, 8, 32, kByCublasLt},",
        "{kBFloat16, false, false, 1, 2, 3, kByWgmma},",
    ]


def test_the_table_tells_the_newest_run_on_a_gpu(tmp_path):
    from readme import gpu_table

    assert gpu_table(tmp_path).count("not measured yet") == 17
    run = {"commit": "abc", "date": "2030-01-01", "device": "a GPU", "fake": True, "goals": []}
    (tmp_path / "1.json").write_text(json.dumps(run))
    assert gpu_table(tmp_path).count("not measured yet") == 17
    run |= {"fake": False, "goals": [judge(GOAL, RECORDS)]}
    (tmp_path / "2.json").write_text(json.dumps(run))
    table = gpu_table(tmp_path)
    assert "| G3 | LayerNorm and RMSNorm forward | PASS |" in table
    assert table.count("not measured yet") == 16
    assert table.endswith("a GPU, commit abc, 2030-01-01.")


@pytest.mark.gpu
@pytest.mark.skipif(not emulated, reason="a dry run is one of the emulator")
def test_a_dry_run_does_all_but_the_tests(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--fake", "--out"]
    stages = "--only=probe,load,ops,sanitize,devices,bench,products,recurrent"
    done = subprocess.run(
        [*command, str(tmp_path), stages],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "FASTNN_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    assert result["fake"]
    assert "emulator" in result["device"]
    told = done.stdout.splitlines()[-18:-1]
    assert [text.split()[0] for text in told] == [goal.id for goal in GOALS]
    assert all(text.split()[1] in ("PASS", "MISS") for text in told)
    verdicts = {v["goal"]: v["verdict"] for v in result["goals"]}
    assert (verdicts["G15"], verdicts["G16"]) == ("PASS", "PASS")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(result["records"])
    lines = (tmp_path / "measured.txt").read_text().splitlines()
    assert len(lines) == 6  # of blas_measured.h
    assert lines[0].startswith("{kBFloat16, true, true, 40, 40, 40, kBy")
    measured = {r["goal"] for r in result["records"] if r.get("fastnn_us")}
    assert measured == {f"G{i}" for i in range(1, 15)} - {"G10"}
    agree, contexts, _, *copies = [r for r in result["records"] if r["case"].startswith("devices")]
    assert agree["same_fit"]
    assert contexts["contexts"] == "of device 1 alone"
    assert [r["case"][-13:] for r in copies] == ["cuda:0 cuda:1", "cuda:1 cuda:0"]


def test_a_dry_run_leaves_what_was_measured_alone(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--fake"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--fake: expected another --out: what lies there was measured" in done.stderr

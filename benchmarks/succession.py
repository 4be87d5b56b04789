"""How often is a challenger refused that is as good as the champion, and how often promoted that is worse?

Two models' scores of the same clips are drawn from a bivariate normal distribution: within a class they correlate by
`CORRELATION`, and the classes lie apart by what makes an AUC. Asked are n clips of each kind. Printed is the share of
challengers that each rule refuses (docs/decisions/0022):

- *margin and test*: what `engines.succession` does of the AUC alone: lower by more than the margin, or significantly
  lower;
- *test alone*: refused where it is significantly lower;
- *proof*: refused unless the AUC is shown, at 95 %, to be less than .05 lower (non-inferiority in its strict sense);
- *all*: margin and test, with the faults that the alarm rules count, and with the false alarms on ten normals.

    python -m benchmarks.succession > table.md
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from engines.succession import AUC_MARGIN, Record, compare_auc, compare_records, is_not_worse

AUC = 0.9
CORRELATION = 0.7
CLIPS = (10, 30, 100)
CHANGES = (0.05, 0.0, -0.05, -0.1)
PROOF_MARGIN = 0.05
NORMALS = 10
CLIP_LIMIT = 1.3
"""Deviations above the normals' mean from which a rule counts a clip: one in ten, as a rule of several clips has it."""
DRAWS, SEED = 4000, 22


def separation(auc: float) -> float:
    """Deviations between the means of normals and anomalies of unit normal scores that rank by `auc`."""
    return float(math.sqrt(2) * stats.norm.ppf(auc))


def draw_pair(rng: np.random.Generator, clips: int, change: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of both models, float64 (2 · clips,) each, and which clips are anomalies."""
    anomaly = np.repeat([False, True], clips)
    spread = [[1.0, CORRELATION], [CORRELATION, 1.0]]
    both = rng.multivariate_normal([0.0, 0.0], spread, size=2 * clips).T
    both += np.outer([separation(AUC), separation(AUC + change)], anomaly)
    return both[0], both[1], anomaly


def refusals(rng: np.random.Generator, clips: int, change: float) -> np.ndarray:
    """Which of the four rules refuses one drawn challenger, bool (4,)."""
    champion, challenger, anomaly = draw_pair(rng, clips, change)
    pair = compare_auc(champion, challenger, anomaly)
    is_lower = pair.p_worse < 0.05
    unproven = pair.difference - stats.norm.ppf(0.95) * pair.standard_error < -PROOF_MARGIN
    normals = rng.multivariate_normal([0.0, 0.0], [[1.0, CORRELATION], [CORRELATION, 1.0]], size=NORMALS).T
    records = [
        Record("a", own, scores, scores > CLIP_LIMIT, 1.0)
        for own, scores in zip(normals, (champion, challenger), strict=True)
    ]
    found = compare_records(records[0], records[1], anomaly, budget=1.0)
    return np.array([pair.difference < -AUC_MARGIN or is_lower, is_lower, unproven, not is_not_worse(found)])


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(SEED)
    print("| clips of each kind | AUC of the challenger | margin and test | test alone | proof | all |")
    print("|---|---|---|---|---|---|")
    for clips in CLIPS:
        for change in CHANGES:
            shares = np.mean([refusals(rng, clips, change) for _ in range(DRAWS)], axis=0)
            cells = " | ".join(f"{share:.0%}".replace("%", " %") for share in shares)
            print(f"| {clips} | {AUC + change:.2f} | {cells} |")


if __name__ == "__main__":
    main()

"""The experiments as data, their runs, the ledgers that keep them, and what can be read off.

experiments.py   a question, the variants that answer it, and what the paper found
runs.py          variants trained and measured over seeds, one row of a ledger a run
tables.py        mean and standard deviation over seeds
verdicts.py      the paper's twelve directions, each held against the ledgers by one rule
"""

from .experiments import (
    COLLAPSE,
    COURSE,
    EXPERIMENTS,
    FACTORS,
    FAILURES,
    OUTPUT_BN,
    PREDICTOR,
    STOP_GRADIENT,
    Experiment,
    find,
)
from .runs import (
    LEDGER,
    MEASURED,
    key,
    ledger_path,
    read_course,
    read_ledger,
    run,
    run_all,
    run_variant,
    thin,
)
from .tables import beside_paper, costs, course_tables, format_table, mean_sd, table
from .verdicts import (
    DIRECTIONS,
    FLIP_HURTS,
    Claim,
    Direction,
    Finding,
    effects,
    judge,
    own_verdict,
    verdict_table,
)

__all__ = [
    "COLLAPSE", "COURSE", "Claim", "DIRECTIONS", "Direction", "EXPERIMENTS", "Experiment", "FACTORS",
    "FAILURES", "FLIP_HURTS", "Finding", "LEDGER", "MEASURED", "OUTPUT_BN", "PREDICTOR", "STOP_GRADIENT",
    "beside_paper", "costs", "course_tables", "effects", "find", "format_table", "judge", "key",
    "ledger_path", "mean_sd", "own_verdict", "read_course", "read_ledger", "run", "run_all", "run_variant",
    "table", "thin", "verdict_table",
]  # fmt: skip

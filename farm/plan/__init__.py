"""Plan: cells become steps, shared steps appear once. Pure: no torch, no Ray, no GPU."""

from farm.plan.planner import make_plan
from farm.plan.steps import HEAVY_STAGES, STAGES, Needs, Plan, PlannedCell, Step

__all__ = ["HEAVY_STAGES", "STAGES", "Needs", "Plan", "PlannedCell", "Step", "make_plan"]

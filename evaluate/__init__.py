"""Measures a run or a bundle against its teacher, other attribution methods and controls; ends with a report."""

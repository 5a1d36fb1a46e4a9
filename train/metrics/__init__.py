"""Measures of answers and of saliency, each with its confidence interval."""

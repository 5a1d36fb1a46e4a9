"""The networks: teacher, student, explainer, the two as one module, and the weights they start from."""

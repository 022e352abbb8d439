"""Models: classifiers behind one interface, own networks, weights, and training recipes.

Importing this imports no torch; what needs it is in the modules: `classifier`, `weights`, `build`, `train`, `nets`.
"""

"""The library: models, studies and heatmaps from Python, in a notebook or a program of one's own.

`import bccdist` offers it all; nothing is loaded before it is asked for, and torch not before a slide is predicted.
"""

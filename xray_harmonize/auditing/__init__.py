"""The audit: what harmonizing did to a data set, measured from every side by one call.

``cohort.py`` makes the images ready and deals the patients into halves, ``rendering.py`` harmonizes each half by what
was fitted to the other, ``features.py`` describes images by numbers, ``task.py`` asks a classifier, ``measuring.py``
gathers what is measured of each harmonizer, ``controls.py`` repeats all of it where nothing should come out,
``leakage.py`` asks what the scanner alone is worth, ``conclusions.py`` says in words what holds, ``audit.py`` walks
through them, and ``result.py`` holds what came out.
"""

from __future__ import annotations

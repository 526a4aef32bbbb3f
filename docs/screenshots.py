"""Take the documentation's screenshots: the audit's page and the gallery, as a browser shows them.

Run as ``python docs/screenshots.py`` after ``make docs``; needs chromium. Writes ``docs/images/audit_page.png`` and
``docs/images/gallery.png``. Everything in them is simulated.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from xray_harmonize import audit, make_cohort

IMAGES = Path(__file__).parent / "images"
GALLERY = Path(__file__).parent.parent / "build" / "docs" / "gallery" / "index.html"


def main() -> None:
    cohort = make_cohort("density", n_patients=60, size=128, random_state=0)
    shown = [int((cohort.images.scanner == name).argmax()) for name in ("senograph-like", "clearview-like")]
    found = audit(cohort.images, cohort.labels, reference=cohort.reference, show=shown)
    with tempfile.TemporaryDirectory() as folder:
        screenshot(found.to_html(Path(folder) / "audit.html"), IMAGES / "audit_page.png", 1200, 1900)
    if GALLERY.exists():
        screenshot(GALLERY, IMAGES / "gallery.png", 1200, 1500)


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """Let a browser without a window draw a page."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        options += [f"--window-size={width},{height}", f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(["chromium", *options], check=True, capture_output=True)


if __name__ == "__main__":
    main()

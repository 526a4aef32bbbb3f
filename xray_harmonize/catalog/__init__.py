"""Collections of images and what is known about them, brought into the tables that the rest of the package reads."""

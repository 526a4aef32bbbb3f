"""Networks and their weights: PyTorch modules that know neither scikit-learn nor files of images."""

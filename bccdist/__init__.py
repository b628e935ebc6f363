"""bccdist: marks Basal Cell Carcinoma in whole-slide images and decides for each tissue section."""

__version__ = "0.1.0"

"""Heatmaps and verdicts as DICOM files: a segmentation and a report a slide; of patients they say nothing."""

"""Reliability of a score: kernels for calibration, conformal sets, abstaining and detection. Numpy only."""

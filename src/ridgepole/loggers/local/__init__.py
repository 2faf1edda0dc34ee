"""The local record of a run: metrics, figures and messages in files of one directory."""

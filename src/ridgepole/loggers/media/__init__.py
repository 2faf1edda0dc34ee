"""Images, tables, histograms and texts: the public methods and the checks of their arguments."""

"""The served cloud model: the live node that keeps it fresh, the HTTP service that answers, the engines that make it quick.

What the model *is* (a pure function of a set of knowledge digests) and what may change it stands in `exchange.continual`.
"""

"""Flower and kuberml together (extra `flower`): a ClientApp as an edge (`edge`), a learner as a Flower client (`client`).

What both send are arrays in Flower's records, which neither side unpickles.
"""

"""The live world: real processes on a real network. A hub routes and keeps copies; nodes only dial out."""

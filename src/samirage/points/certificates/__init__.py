"""Certify what a point is to SAM: numerical evidence, with the residuals that it rests on."""

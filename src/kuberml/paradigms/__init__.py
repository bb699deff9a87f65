"""How nodes learn together: one file each, one async function per role."""

"""Values in; pages out, one file each."""

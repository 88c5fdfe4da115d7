"""Who we are to KSeF: certificates, keys and how they are read."""

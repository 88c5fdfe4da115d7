"""The page for people and the HTTP API for programs: a process of its own that holds no key of KSeF's."""
